import pytest

from hardness.ranks import ALONE, Ranks, launched, of_process_group
from tests.conftest import refused

NAMES = ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


@pytest.mark.parametrize("world", [None, "", "1"])
def test_one_process_is_alone_whatever_else_the_environment_says(monkeypatch, world):
    monkeypatch.setenv("RANK", "3")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if world is not None:
        monkeypatch.setenv("WORLD_SIZE", world)
    assert launched() == ALONE == Ranks(0, 1, 0, 1)
    assert of_process_group() == ALONE


def test_what_torchrun_says(monkeypatch):
    for name, value in zip(NAMES, (3, 1, 2), strict=True):
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("WORLD_SIZE", "4")
    ranks = launched()
    assert ranks == Ranks(rank=3, size=4, local_rank=1, local_size=2)
    assert (ranks.is_many, ranks.is_first) == (True, False)


def test_an_incomplete_environment_is_refused(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with refused("incomplete-launch") as caught:
        launched()
    assert "RANK=, WORLD_SIZE=2" in caught.value.values["environment"]


@pytest.mark.parametrize(("length", "size"), [(0, 3), (2, 3), (10, 3), (12, 4)])
def test_slices_cover_everything_once_in_order(length, size):
    parts = [range(length)[Ranks(rank, size).slice(length)] for rank in range(size)]
    assert [item for part in parts for item in part] == list(range(length))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_alone_the_work_is_done_at_once():
    assert ALONE.on_first(lambda: 7) == 7
