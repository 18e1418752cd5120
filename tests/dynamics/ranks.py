"""What each rank of test_recorder_ranks.py does: a user's loop with torch's DistributedSampler."""

import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch.utils.data import DistributedSampler

from hardness import Recorder
from hardness.dynamics import store

NUM_EXAMPLES = 10


def feed(recorder: Recorder, ids: list[int]) -> None:
    """Record logits that identify the rank."""
    ids = torch.tensor(ids, dtype=torch.int64)
    logits = torch.zeros(len(ids), NUM_EXAMPLES)
    logits[:, 0] = 1 + dist.get_rank()
    for some in range(0, len(ids), 2):
        recorder.update(ids[some : some + 2], logits[some : some + 2], ids[some : some + 2])


def error_of(recorder: Recorder) -> str:
    try:
        recorder.end_epoch()
    except ValueError as error:
        return str(error)
    return ""


def read_at_once(run: Path, mine: list[int]) -> None:
    """The last rank writes slowly; every rank reads the complete epoch as soon as it has ended."""
    write = store.write_part

    def wait_and_write(*args, **kwargs) -> None:
        time.sleep(dist.get_rank() * 0.2)
        write(*args, **kwargs)

    store.write_part = wait_and_write
    with Recorder(run, NUM_EXAMPLES) as recorder:
        for epoch in (1, 2):
            feed(recorder, mine)
            recorder.end_epoch()
            assert store.recorded_epochs(run)[-1] == epoch
            assert store.is_whole(run, epoch)
    store.write_part = write


def main(folder: Path) -> None:
    dist.init_process_group("gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    sampler = DistributedSampler(range(NUM_EXAMPLES), shuffle=True, seed=0)
    with Recorder(folder / "padded", NUM_EXAMPLES) as recorder:
        for epoch in range(2):
            sampler.set_epoch(epoch)
            feed(recorder, list(sampler))
            recorded = recorder.end_epoch()
            assert recorded.num_examples == NUM_EXAMPLES
            assert recorded.accuracy == 1 / NUM_EXAMPLES

    # In epoch e example e is predicted correctly, and ranks see other examples than before; then resume.
    for done in (0, 2):
        with Recorder(folder / "learned", NUM_EXAMPLES, resume=True, last_epoch=done) as recorder:
            for epoch in range(done + 1, done + 4):
                ids = torch.arange(NUM_EXAMPLES)[(torch.arange(NUM_EXAMPLES) + epoch) % ranks == rank]
                logits = torch.zeros(len(ids), NUM_EXAMPLES)
                logits[:, min(epoch, 4)] = 1
                recorder.update(ids, logits, ids)
                assert recorder.end_epoch().learned == min(epoch, 4) / NUM_EXAMPLES

    mine = list(range(rank, NUM_EXAMPLES, ranks))
    recorder = Recorder(folder / "missing", NUM_EXAMPLES)
    feed(recorder, mine[:-1] if rank == 1 else mine)
    assert "1 missing (first: " in error_of(recorder)

    recorder = Recorder(folder / "repeated", NUM_EXAMPLES)
    feed(recorder, [*mine, mine[0]] if rank == 1 else mine)
    elsewhere = "see the errors of the other ranks"
    assert (f"1 repeated (first: {mine[0]})" if rank == 1 else elsewhere) in error_of(recorder)

    recorder = Recorder(folder / "no-class", NUM_EXAMPLES)
    recorder._checks_labels_at_once = False
    feed(recorder, mine if rank != 1 else mine[1:])
    if rank == 1:
        recorder.update(mine[:1], torch.zeros(1, NUM_EXAMPLES), [-100])
    assert (f"example {mine[0]} has label -100" if rank == 1 else elsewhere) in error_of(recorder)

    read_at_once(folder / "slow", mine)

    with Recorder(folder / "unreadable", NUM_EXAMPLES, unreadable=np.array([1])) as recorder:
        feed(recorder, [example for example in mine if example != 1])
        recorder.end_epoch()
    with Recorder(folder / "unreadable", NUM_EXAMPLES, resume=True, unreadable=np.array([1])) as recorder:
        assert recorder.epoch == 2
    with Recorder(folder / "tolerant", NUM_EXAMPLES, repeats="last", missing="null") as recorder:
        # Every rank sees example 0 twice, and no rank the last example.
        feed(recorder, [0, *(example for example in mine if example not in (0, NUM_EXAMPLES - 1)), 0])
        assert recorder.end_epoch().num_examples == NUM_EXAMPLES - 1
    dist.barrier()
    dist.destroy_process_group()
