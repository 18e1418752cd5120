"""Pooling the scores of several runs of one data set: means, deviations and mean ranks."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from hardness.dynamics.scores import NOT_SCORES, SCORES
from hardness.errors import UserError


def ranks(table: pd.DataFrame, by: str) -> np.ndarray:
    """(N,) float64 ranks by one score: 1 is the easiest, ties share a rank, never learned is the hardest.

    nan if the image was unreadable.
    """
    hardness = SCORES[by].sign * table[by].to_numpy(np.float64, na_value=np.nan)
    is_readable = table["mean_loss"].notna().to_numpy()
    is_null = np.isnan(hardness)
    if not SCORES[by].null_is_hardest and (is_null & is_readable).any():
        example = table["example_id"].to_numpy()[is_null & is_readable][0]
        sentence, hint = "Example {example} has a loss but no {score}.", "Rank by another score."
        raise UserError("missing-score", sentence, hint, example=int(example), score=by)
    found = np.full(len(table), np.nan)
    found[is_readable] = pd.Series(np.where(is_null, np.inf, hardness)[is_readable]).rank()
    return found


def is_whole(table: pd.DataFrame, by: str) -> bool:
    """Can ``ranks`` rank every row of the table (readable examples only) by this score?"""
    return by in table and bool(SCORES[by].null_is_hardest or table[by].notna().all())


def common_scores(tables: Sequence[pd.DataFrame]) -> list[str]:
    """The scores that every table has, in the order of the first table."""
    first, *others = ([name for name in table.columns if name not in NOT_SCORES] for table in tables)
    return [name for name in first if all(name in each for each in others)]


def pool(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The scores of two or more runs -> one row per example, ordered by example id.

    For every score that all runs have: mean over the runs, standard deviation (ddof 1), and mean rank. For a
    score that is null if never learned, also the number of runs that have it; mean and standard deviation
    are over those runs.
    """
    columns = {"example_id": tables[0]["example_id"].to_numpy()}
    for name in common_scores(tables):
        values = [table[name].to_numpy(np.float64, na_value=np.nan) for table in tables]
        values = np.ma.masked_invalid(values, copy=False)
        columns[f"{name}_mean"] = values.mean(0).filled(np.nan)
        columns[f"{name}_std"] = np.ma.masked_where(values.count(0) < 2, values.std(0, ddof=1)).filled(np.nan)
        if SCORES[name].null_is_hardest:
            columns[f"{name}_count"] = values.count(0)
        columns[f"{name}_rank"] = np.mean([ranks(table, name) for table in tables], axis=0)
    return pd.DataFrame(columns)
