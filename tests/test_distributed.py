import pytest

from hardness import distributed
from tests.conftest import refused


@pytest.mark.parametrize("world", [None, "", "1"])
def test_one_process_whatever_else_is_in_the_environment(monkeypatch, world):
    monkeypatch.setenv("RANK", "3")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if world is not None:
        monkeypatch.setenv("WORLD_SIZE", world)
    assert distributed.launch() == distributed.Launch(0, 1, 0, 1)
    assert (distributed.rank(), distributed.num_ranks()) == (0, 1)


def test_an_incomplete_environment_is_refused(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with refused("torchrun-environment") as caught:
        distributed.launch()
    assert caught.value.values["found"].startswith("RANK=, WORLD_SIZE=2, ")


@pytest.mark.parametrize(("length", "ranks"), [(0, 3), (2, 3), (10, 3), (12, 4)])
def test_slices_cover_everything_once(monkeypatch, length, ranks):
    monkeypatch.setattr(distributed, "num_ranks", lambda: ranks)
    found = []
    for rank in range(ranks):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        found += range(length)[distributed.my_slice(length)]
    assert found == list(range(length))


def test_without_a_group_the_decision_is_immediate():
    assert distributed.first_decides(lambda: 7) == 7
