"""The same run for any number of processes."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from hardness.dynamics import store
from tests.conftest import assert_refused
from tests.processes import command_of, run, run_ranks

SETTINGS = {
    "eval": ("--epochs", "5"),
    "train-m3": ("--epochs", "3", "--record", "train", "--optimizer", "m3", "--batch-size", "50"),
}
MANY = [("eval", 2), ("eval", 3), ("train-m3", 3)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The runs of each setting, in one process and in several, by (setting, number of ranks)."""
    folder = tmp_path_factory.mktemp("runs")
    found = {}
    for name, num_ranks in [("eval", 1), ("train-m3", 1), *MANY]:
        found[name, num_ranks] = folder / f"{name}-{num_ranks}"
        words = (*SETTINGS[name], "--lr", "0.01", "--out", found[name, num_ranks])
        run_ranks(num_ranks, command_of("track", *words), folder)
    return found


def test_torchrun_starts_it(tmp_path):
    """The one real start: everywhere else processes are forked with the environment that torchrun makes."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "hardness"]
    words = ["track", "--epochs", "1", "--out", "r"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, *launch, *words], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    # Only the first rank prints.
    assert done.stdout.count("epoch 1/1: ") == 1
    assert len(list((tmp_path / "r/dynamics/epoch=1").iterdir())) == 2


@pytest.mark.parametrize(("name", "ranks"), MANY)
def test_the_scores_agree_whatever_the_number_of_ranks(runs, name, ranks):
    alone, many = runs[name, 1], runs[name, ranks]
    one, other = (pd.read_parquet(run / "scores.parquet") for run in (alone, many))
    assert 0 < one["first_learned_epoch"].isna().sum() < 1437
    for score in ("aum", "el2n", "confidence", "variability", "mean_loss"):
        assert other[score].to_numpy() == pytest.approx(one[score].to_numpy(), rel=1e-3, abs=1e-3)
    differs = one["first_learned_epoch"].fillna(0) != other["first_learned_epoch"].fillna(0)
    # Rounding may carry an example across the border: one whose margin was next to nothing.
    least = np.min(
        [np.abs(records.margin) for run in (alone, many) for _, records in store.read_epochs(run)], axis=0
    )
    print(f"{name}, {ranks} ranks: {differs.sum()} first-learned epochs differ")
    assert (least[differs] < 1e-3).all()
    assert differs.sum() <= 2


@pytest.mark.parametrize(("name", "ranks"), MANY)
def test_every_rank_writes_its_part_and_the_first_the_rest(runs, name, ranks):
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
    words = ["track", *SETTINGS["eval"], "--lr", "0.01", "--resume", "--out", runs["eval", 2]]
    assert_refused(run(*words, cwd=tmp_path), "num-ranks-differ", 1, 2)


def test_other_stages_are_for_one_process(tmp_path):
    answers = run_ranks(2, command_of("retrain", "--out", "r"), tmp_path, check=False)
    for answer in answers:
        assert_refused(answer, "one-process-only", "retrain", 2)
    assert not (tmp_path / "r").exists()
