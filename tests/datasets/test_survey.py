import numpy as np
import pytest
from PIL import Image

from hardness.datasets.decoding import File
from hardness.datasets.survey import common_size, range_of
from hardness.errors import UserError


def write(root, *sizes):
    places = []
    for number, size in enumerate(sizes):
        Image.new("L", size).save(root / f"{number:03d}.png")
        places.append(File(root / f"{number:03d}.png"))
    return places


@pytest.mark.parametrize(
    ("sizes", "expected", "differs"),
    [
        ([(500, 60), (30, 40), (32, 30), (30, 30)], 30, True),
        ([(500, 400), (30, 40), (300, 280)], 224, True),
        ([(500, 400), (300, 280), (900, 900)], 224, False),
        ([(30, 40), (50, 40)], 40, False),
        ([(64, 64)] * 3, 64, False),
        ([(64, 64)] * 3 + [(200, 150)], 64, True),
    ],
)
def test_the_most_common_short_side(tmp_path, sizes, expected, differs):
    size, warning = common_size(write(tmp_path, *sizes), 2)
    assert size == expected
    assert (warning is not None) == differs
    if differs:
        sides = [min(each) for each in sizes]
        assert f"{min(sides)} to {max(sides)} pixels" in warning


def test_many_are_sampled_and_bad_ones_passed_over(tmp_path, monkeypatch):
    places = write(tmp_path, *[(20, 20)] * 30)
    places[0] = File(tmp_path / "none.png")
    monkeypatch.setattr("hardness.datasets.survey._NUM_SAMPLED", 10)
    assert common_size(places, 0) == (20, None)
    # Where all of the sample are bad, the others are tried.
    places[::3] = [File(tmp_path / "none.png")] * 10
    assert common_size(places, 0) == (20, None)
    with pytest.raises(UserError, match=r"a readable image; found .*none\.png \(.*\), and none after it"):
        common_size([File(tmp_path / "none.png")] * 3, 0)


def test_the_range_begins_at_zero_or_below():
    nan = np.nan
    assert range_of(np.array([[nan, nan], [5, 10], [3, 7]])) == (0, 10)
    assert range_of(np.array([[-2, 10], [nan, nan]])) == (-2, 10)
    assert range_of(np.array([[nan, nan]])) is None
