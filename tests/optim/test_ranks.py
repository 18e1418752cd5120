"""Several processes step as one does: DDP, FSDP2 (fully_shard), torch.distributed.checkpoint; over gloo."""

from pathlib import Path

import pytest
import torch

from hardness.training.step import train_step
from tests import processes
from tests.optim import ranks


@pytest.fixture(scope="module", params=[2, 3])
def folder(request, tmp_path_factory) -> Path:
    """The results of that many ranks."""
    folder = tmp_path_factory.mktemp("ranks")
    processes.run_ranks(request.param, processes.main_of("tests.optim.ranks", folder), folder)
    return folder


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
@pytest.mark.parametrize("name", ranks.NAMES)
def test_ranks_step_as_one_process_does(folder, name):
    steps = range(len(ranks.BATCH_SIZES))
    expected = alone(name, steps)
    assert any(not torch.equal(expected[key], value) for key, value in ranks.whole(ranks.network()).items())
    for kind in ("ddp", "ddp-views", "fsdp", "resumed"):
        found = torch.load(folder / f"{kind}-{name}.pt", weights_only=True)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6, msg=lambda m, k=kind: f"{k}: {m}")
    # Resume a checkpoint of several ranks in one process.
    found = alone(name, steps[ranks.SAVED_AFTER :], resume=folder / f"dcp-{name}")
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
