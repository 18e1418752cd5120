"""RUN/coherence.parquet, which ``track`` and ``score --coherence`` write."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from hardness import files


def add_coherence(run: Path, rows: pd.DataFrame, fingerprint: str) -> Path:
    """Write rows to RUN/coherence.parquet, replacing those of the same epochs and groups."""
    keys = ["epoch", "measured_on"]
    new = pd.MultiIndex.from_frame(rows[keys])
    return replace_rows(run, rows, fingerprint, lambda old: pd.MultiIndex.from_frame(old[keys]).isin(new))


def replace_rows(
    run: Path, rows: pd.DataFrame, fingerprint: str, is_replaced: Callable[[pd.DataFrame], np.ndarray]
) -> Path:
    path = run / "coherence.parquet"
    if path.exists():
        old = files.read_table(path, fingerprint).to_pandas()
        rows = pd.concat([old[~is_replaced(old)], rows], ignore_index=True)
    files.write_table(path, rows.sort_values(["epoch", "measured_on"], kind="stable"), fingerprint)
    return path
