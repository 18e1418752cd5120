import pytest

from hardness import distributed
from hardness.errors import UserError


@pytest.mark.parametrize("world", [None, "", "1"])
def test_alone_whatever_else_the_environment_says(monkeypatch, world):
    monkeypatch.setenv("RANK", "3")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if world is not None:
        monkeypatch.setenv("WORLD_SIZE", world)
    assert distributed.launch() == distributed.Launch(0, 1, 0, 1)
    assert (distributed.rank(), distributed.num_ranks()) == (0, 1)


def test_half_an_environment_is_refused(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match=r"RANK=, WORLD_SIZE=2, .*; start it with torchrun"):
        distributed.launch()


@pytest.mark.parametrize(("length", "ranks"), [(0, 3), (2, 3), (10, 3), (12, 4)])
def test_slices_share_it_out(monkeypatch, length, ranks):
    monkeypatch.setattr(distributed, "num_ranks", lambda: ranks)
    found = []
    for rank in range(ranks):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        found += range(length)[distributed.my_slice(length)]
    assert found == list(range(length))


def test_alone_the_first_decides_at_once():
    assert distributed.first_decides(lambda: 7) == 7
