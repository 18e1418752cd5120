import numpy as np
import pytest
from PIL import Image

from hardness.datasets.source import File
from hardness.datasets.survey import common_size, range_of
from tests.conftest import refused


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
        assert f"to {expected} " in warning


def test_a_sample_is_used_and_unreadable_images_are_skipped(tmp_path, monkeypatch):
    places = write(tmp_path, *[(20, 20)] * 30)
    places[0] = File(tmp_path / "none.png")
    monkeypatch.setattr("hardness.datasets.survey._NUM_SAMPLED", 10)
    assert common_size(places, 0) == (20, None)
    # If the whole sample is unreadable, the other images are tried.
    places[::3] = [File(tmp_path / "none.png")] * 10
    assert common_size(places, 0) == (20, None)
    with refused("no-readable-image", path=str(tmp_path / "none.png"), num_images=3):
        common_size([File(tmp_path / "none.png")] * 3, 0)


def test_the_range_starts_at_zero_or_below():
    nan = np.nan
    assert range_of(np.array([[nan, nan], [5, 10], [3, 7]])) == (0, 10)
    assert range_of(np.array([[-2, 10], [nan, nan]])) == (-2, 10)
    assert range_of(np.array([[nan, nan]])) is None
