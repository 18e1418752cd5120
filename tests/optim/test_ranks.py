"""Several processes step as one would: DDP, FSDP2 (fully_shard), torch.distributed.checkpoint; over gloo."""

from pathlib import Path

import pytest
import torch

from hardness.training.step import train_step
from tests.optim import ranks
from tests.processes import main_of, run_ranks


@pytest.fixture(scope="module", params=[2, 3])
def folder(request, tmp_path_factory) -> Path:
    """What as many ranks wrote."""
    folder = tmp_path_factory.mktemp("ranks")
    run_ranks(request.param, main_of("tests.optim.ranks", folder), folder)
    return folder


def alone(name: str, steps: range, resume: Path | None = None) -> dict[str, torch.Tensor]:
    model = ranks.network()
    optimizer = ranks.build(name, model)
    if resume:
        ranks.load(model, optimizer, resume)
    for step in steps:
        train_step(model, optimizer, *ranks.global_batch(step))
    return ranks.whole(model)


# A checkpoint of several ranks is loaded by one process, on purpose.
@pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning")
@pytest.mark.parametrize("name", ranks.NAMES)
def test_ranks_step_as_one_process_does(folder, name):
    steps = range(len(ranks.BATCH_SIZES))
    expected = alone(name, steps)
    assert any(not torch.equal(expected[key], value) for key, value in ranks.whole(ranks.network()).items())
    for kind in ("ddp", "ddp-views", "fsdp", "resumed"):
        found = torch.load(folder / f"{kind}-{name}.pt", weights_only=True)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6, msg=lambda m, k=kind: f"{k}: {m}")
    # A checkpoint of several ranks goes on in one process.
    found = alone(name, steps[ranks.SAVED_AFTER :], resume=folder / f"dcp-{name}")
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
