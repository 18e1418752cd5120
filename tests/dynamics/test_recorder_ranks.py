"""A Recorder in the user's loop on several ranks: every example once per epoch, no gathering."""

import pyarrow.parquet as pq
import pytest

from hardness.dynamics import store
from tests import processes
from tests.dynamics.ranks import NUM_EXAMPLES


@pytest.fixture(scope="module", params=[2, 3])
def written(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    processes.run_ranks(request.param, processes.main_of("tests.dynamics.ranks", folder), folder)
    return request.param, folder


def test_an_example_that_several_ranks_saw_is_the_lowest_ones(written):
    num_ranks, folder = written
    for epoch in (1, 2):
        records = store.read_epoch(folder / "padded", epoch, "")
        assert len(records.loss) == NUM_EXAMPLES
        parts = sorted(store.epoch_folder(folder / "padded", epoch).iterdir())
        assert [part.name for part in parts] == [f"part-{rank}.parquet" for rank in range(num_ranks)]
        for rank, part in enumerate(parts):
            table = pq.read_table(part, partitioning=None)
            # Each rank's margins say that they are its own.
            assert set(table["margin"].to_pylist()) <= {1.0 + rank, -1.0 - rank}
        sizes = [pq.read_metadata(part).num_rows for part in parts]
        assert sum(sizes) == NUM_EXAMPLES
        padded = -(-NUM_EXAMPLES // num_ranks)
        # The sampler pads the last batch: two of the examples on three ranks are seen twice.
        assert sum(padded - size for size in sizes) == padded * num_ranks - NUM_EXAMPLES


def test_an_epoch_that_raised_wrote_nothing(written):
    _, folder = written
    for name in ("missing", "repeated", "no-class"):
        assert not list((folder / name).rglob("*.parquet"))


def test_an_unreadable_example_is_in_one_part(written):
    _, folder = written
    records = store.read_epoch(folder / "unreadable", 1, "")
    assert (~records.is_readable).nonzero()[0].tolist() == [1]


def test_repeats_are_the_lowest_ranks_and_the_missing_one_is_null(written):
    _, folder = written
    records = store.read_epoch(folder / "tolerant", 1, "")
    assert (~records.is_readable).nonzero()[0].tolist() == [NUM_EXAMPLES - 1]
    assert abs(records.margin[0]) == 1
