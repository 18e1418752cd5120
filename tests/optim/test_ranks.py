"""Several processes step as one does: DDP, FSDP2 (fully_shard), torch.distributed.checkpoint; over gloo."""

from pathlib import Path

import pytest
import torch

from hardness.training.step import train_step
from tests import processes
from tests.optim import ranks

NAMES = {2: ("rm3", "m3+adamw"), 3: ranks.NAMES}


@pytest.fixture(scope="module", params=NAMES)
def results(request, tmp_path_factory) -> tuple[tuple[str, ...], Path]:
    """The names that so many ranks trained, and the folder with their results."""
    names, folder = NAMES[request.param], tmp_path_factory.mktemp("ranks")
    processes.run_ranks(request.param, processes.main_of("tests.optim.ranks", folder, names), folder)
    return names, folder


def alone(name: str, steps: range, resume: Path | None = None) -> dict[str, torch.Tensor]:
    model = ranks.network()
    optimizer = ranks.build(name, model)
    if resume:
        ranks.load(model, optimizer, resume)
    for step in steps:
        train_step(model, optimizer, *ranks.global_batch(step))
    return ranks.whole(model)


# One process loads a checkpoint of several ranks on purpose.
@pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning")
def test_ranks_step_as_one_process_does(results):
    names, folder = results
    steps = range(len(ranks.BATCH_SIZES))
    for name in names:
        expected = alone(name, steps)
        for key, value in ranks.whole(ranks.network()).items():
            assert not torch.equal(expected[key], value)
        for kind in ("ddp", "ddp-views", "fsdp", "resumed"):
            found = torch.load(folder / f"{kind}-{name}.pt", weights_only=True)
            assert_close(found, expected, f"{name}, {kind}")
        # Resume a checkpoint of several ranks in one process.
        resumed = alone(name, steps[ranks.SAVED_AFTER :], resume=folder / f"dcp-{name}")
        assert_close(resumed, expected, f"{name}, resumed alone")


def assert_close(found, expected, what: str) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6, msg=lambda text: f"{what}: {text}")
