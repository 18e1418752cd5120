import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardness.findings.curves import at_first_crossing


def test_crossings_by_hand():
    rising, values = np.array([0.1, 0.5, 0.4, 0.9]), np.array([0.0, 1.0, 2.0, 3.0])
    # 0.3 is half way to the first epoch; 0.5 is reached there; 0.65 is half way from 0.4 to 0.9.
    assert at_first_crossing(rising, values, np.array([0.1, 0.3, 0.5, 0.65])) == pytest.approx(
        [0, 0.5, 1, 2.5]
    )


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9))
def test_at_a_crossing_the_curve_reads_its_own_level(curve):
    curve = np.array(curve)
    grid = np.linspace(curve[0], curve.max(), 7)
    assert at_first_crossing(curve, curve, grid) == pytest.approx(grid)
