"""``torchrun ... -m hardness track``: the same run, whatever the number of processes.

One of the runs is started by the real torchrun, the others are forked with the environment that it sets.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hardness.dynamics import store
from tests import processes
from tests.conftest import assert_refused

SETTINGS = {
    "eval": ("--epochs", "3", "--lr", "0.01"),
    "train-m3": (
        *("--epochs", "3", "--lr", "0.01", "--record", "train"),
        *("--optimizer", "m3", "--batch-size", "50"),
    ),
}
MANY = [("eval", 2), ("train-m3", 3)]


def torchrun(num_ranks: int, *words) -> subprocess.CompletedProcess:
    launch = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={num_ranks}",
        "-m",
        "hardness",
    ]
    return subprocess.run(
        [sys.executable, *launch, *map(str, words)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The runs of each setting, in one process and on several ranks, by (setting, ranks)."""
    folder = tmp_path_factory.mktemp("runs")
    found = {
        (name, ranks): folder / f"{name}-{ranks}" for name, ranks in [("eval", 1), ("train-m3", 1), *MANY]
    }
    for (name, ranks), out in found.items():
        words = ("track", *SETTINGS[name], "--out", out)
        if (name, ranks) == ("eval", 2):
            done = torchrun(ranks, *words)
            assert done.returncode == 0, done.stderr
            # Only rank 0 prints.
            assert done.stdout.count("epoch 3/3: ") == 1, done.stdout
        else:
            processes.run_ranks(ranks, processes.command_of(*words), folder)
    return found


@pytest.mark.parametrize(("name", "ranks"), MANY)
def test_the_scores_agree_whatever_the_number_of_ranks(runs, name, ranks):
    alone, many = runs[name, 1], runs[name, ranks]
    one, other = (pd.read_parquet(run / "scores.parquet") for run in (alone, many))
    assert 0 < one["first_learned_epoch"].isna().sum() < 1437
    for score in ("aum", "el2n", "confidence", "variability", "mean_loss"):
        assert other[score].to_numpy() == pytest.approx(one[score].to_numpy(), rel=1e-3, abs=1e-3)
    differs = one["first_learned_epoch"].fillna(0) != other["first_learned_epoch"].fillna(0)
    # Rounding may change the prediction of an example whose margin is almost 0.
    least = np.min(
        [np.abs(records.margin) for run in (alone, many) for _, records in store.read_epochs(run)], axis=0
    )
    print(f"{name}, {ranks} ranks: {differs.sum()} first-learned epochs differ")
    assert (least[differs] < 1e-3).all()
    assert differs.sum() <= 2


@pytest.mark.parametrize(("name", "ranks"), MANY)
def test_every_rank_writes_its_part_and_rank_0_the_rest(runs, name, ranks):
    run = runs[name, ranks]
    info = json.loads((run / "run.json").read_text())
    assert (info["status"], info["num_ranks"]) == ("finished", ranks)
    epochs = store.recorded_epochs(run)
    for epoch in epochs:
        parts = sorted(store.epoch_folder(run, epoch).iterdir())
        assert [part.name for part in parts] == [f"part-{rank}.parquet" for rank in range(ranks)]
        ids = np.concatenate([pd.read_parquet(part)["example_id"] for part in parts])
        assert sorted(ids) == list(range(1437))
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    alone = [json.loads(line) for line in (runs[name, 1] / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == epochs
    for line, other in zip(lines, alone, strict=True):
        for key in ("train_loss", "train_top1", "step_norm", "record_loss", "validation_loss"):
            assert line[key] == pytest.approx(other[key], rel=1e-3)
        assert line["learned"] == pytest.approx(other["learned"], abs=2 / 1437)
    first_learned = pd.read_parquet(run / "scores.parquet")["first_learned_epoch"]
    assert lines[-1]["learned"] == first_learned.notna().mean()


def test_another_number_of_processes_is_refused(runs, tmp_path):
    words = ["track", *SETTINGS["eval"], "--resume", "--out", runs["eval", 2]]
    assert_refused(processes.run(*words, cwd=tmp_path), "num-ranks-differ", 1, 2)


def test_other_stages_run_in_one_process(tmp_path):
    command = processes.command_of("retrain", "--out", "r")
    for answer in processes.run_ranks(2, command, tmp_path, check=False):
        assert_refused(answer, "one-process-only", "retrain", 2)
    assert not (tmp_path / "r").exists()
