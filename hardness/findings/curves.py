"""Reading curves: at the last epoch, and at equal values of another curve."""

import numpy as np
import pandas as pd


def last_epoch(curves: pd.DataFrame) -> pd.DataFrame:
    """The rows of the last epoch, not of the best one."""
    return curves[curves["epoch"] == curves["epoch"].max()]


def at_first_crossing(rising: np.ndarray, values: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """``values`` where the curve ``rising`` first reaches each level of ``grid``, linearly interpolated."""
    # The running maximum reaches a level at the same epoch as the curve.
    epochs = np.searchsorted(np.maximum.accumulate(rising), grid, side="left")
    assert epochs.max() < len(rising)
    before = np.maximum(epochs - 1, 0)
    rise = rising[epochs] - rising[before]
    share = np.divide(grid - rising[before], rise, out=np.ones_like(grid), where=rise > 0)
    return values[before] + share * (values[epochs] - values[before])
