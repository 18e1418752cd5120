"""Means over independent seeds, with Student t intervals at 95 %."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its Student t interval at 95 %; no interval from one seed."""

    mean: float
    low: float | None
    high: float | None
    num_seeds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Estimate":
        values = np.asarray(values, np.float64)
        mean = float(values.mean())
        if len(values) < 2:
            return cls(mean, None, None, len(values))
        half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
        return cls(mean, mean - half, mean + half, len(values))

    @property
    def sign(self) -> int:
        """+1 or -1 if the interval excludes 0, else 0."""
        if self.low is None or self.high is None:
            return 0
        return 1 if self.low > 0 else -1 if self.high < 0 else 0

    def __str__(self) -> str:
        if self.low is None:
            return f"{self.mean:.3f} (one seed: no interval)"
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}] ({self.num_seeds} seeds)"


def summarize(table: pd.DataFrame, by: list[str], values: list[str]) -> pd.DataFrame:
    """Mean and interval over the rows of each group: one row per group and value.

    Columns: ``by``, then value, mean, low, high, num_seeds; groups in the order of their first row, and
    low and high are null for a group of one row.
    """
    rows = [
        {**dict(zip(by, key, strict=True)), "value": value, **vars(Estimate.of(group[value]))}
        for key, group in table.groupby(by, sort=False)
        for value in values
    ]
    return pd.DataFrame(rows).astype({"low": float, "high": float})
