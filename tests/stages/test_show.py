"""What ``hardness show`` prints for a run of each stage, in each status; it never writes to the folder."""

import json
import re
import shutil

import pandas as pd
import pytest

from hardness import files
from hardness.runs.folder import RunFolder
from hardness.runs.reading import read_info, read_log
from hardness.runs.settings import resume_command
from hardness.settings.retrain import Retrain
from hardness.settings.track import Track
from hardness.stages.memorize import Memorize, memorize
from hardness.stages.show import Show, show
from hardness.stages.split import Split, split
from hardness.training import grid
from tests.conftest import refused
from tests.made_runs import change_info

DATA = {
    "num_train": 100,
    "num_validation": 20,
    "class_names": ["cat", "dog"],
    "image_shape": [3, 32, 16],
}


@pytest.fixture
def shown(capsys):
    """What is printed for a run; its folder must not change, not even the times of its files."""

    def output(run) -> str:
        def state():
            return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in run.rglob("*")}

        before = state()
        capsys.readouterr()
        show(Show(run=run))
        out, err = capsys.readouterr()
        assert state() == before
        assert err == ""
        assert "\x1b" not in out
        # The command that resumes the run may be long.
        assert max(len(line.rstrip()) for line in out.splitlines() if " --resume" not in line) <= 100
        return out

    return output


def fact(out: str, name: str) -> str:
    (found,) = re.findall(rf"^{name}  +(\S.*?) *$", out, re.MULTILINE)
    return found


def test_a_finished_track(made_run, tmp_path, shown):
    run = shutil.copytree(made_run, tmp_path / "run")
    split(Split(run=(run,), quantile=0.1, controls=3, name="mine"))
    out = shown(run)
    assert out.splitlines()[0].rstrip() == f"{run}: track, finished"
    assert fact(out, "data") == "digits: 1,437 training and 360 validation images of 8 x 8, 10 classes"
    assert fact(out, "training") == "mlp (85,002 parameters), sgdm, lr 0.02, batch size 64, 6 epochs"
    assert fact(out, "fingerprint") == read_info(run)["fingerprint"]
    assert fact(out, "progress") == "epoch 6 of 6"
    assert not re.search("^(settings|corrupt)", out, re.MULTILINE)
    log = read_log(run)
    for name, key in (("train loss", "train_loss"), ("learned so far", "learned")):
        first, curve, last = fact(out, name).split()
        assert (first, last) == (f"{log[0][key]:.3f}", f"{log[-1][key]:.3f}")
        assert len(curve) == 6
        assert {curve[0], curve[-1]} == {"▁", "█"}
    table = pd.read_parquet(run / "scores.parquet")
    in_first, never = (table["first_learned_epoch"] == 1).sum(), table["first_learned_epoch"].isna().sum()
    shares = f"in epoch 1 {in_first} ({in_first / 1437:.3f}), never {never} ({never / 1437:.3f})"
    assert fact(out, "learned").endswith(f"{shares} of 1,437 examples")
    assert "first_learned_epoch, learned_epoch," in fact(out, "scores")
    sizes = pd.read_parquet(run / "splits/mine.parquet").value_counts(["subset", "fold"])
    train, test = sizes["easy", "train"], sizes["easy", "test"]
    assert train + test == 143
    made = fact(out, "mine: quantile 0.1 by first_learned_epoch")
    assert re.fullmatch(rf"{train} \+ {test} .* 3 of each", made)
    assert "dynamics/ (6 files, " in fact(out, "files")
    assert "--resume" not in out


LINE = {"train_loss": 2.0, "train_top1": 0.25, "images_per_second": 1234.5}


def write_log(run, lines):
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def leave(stage, config, error, work=lambda run: None):
    """A run that an error ended."""

    def begin():
        with RunFolder(stage, config) as run:
            work(run)
            raise error

    with pytest.raises(type(error)):
        begin()


@pytest.mark.parametrize("status", ["running", "interrupted", "failed"])
def test_a_track_that_is_not_finished(here, shown, status):
    """Seven epochs of twenty, 8 s each, with a night after the third."""
    settings = {"out": here / "r", "noise": 0.25, "optimizer": "rm3", "seed": 5, "checkpoint_every": 2}
    days, out = [1, 1, 1, 2, 2, 2, 2], []

    def work(run):
        run.update(data=DATA, fingerprint="abc", device="cpu", noise_rate=0.125, num_unreadable=3)
        times = [f"2026-01-0{day}T10:00:{8 * k:02d}+00:00" for k, day in enumerate(days)]
        write_log(run.path, [{"epoch": k + 1, "time": time, **LINE} for k, time in enumerate(times)])
        if status == "running":
            out.append(shown(run.path))
            # The run still has its lock.
            with refused("run-in-use"):
                RunFolder("track", Track(resume=True, **settings)).__enter__()

    error = KeyboardInterrupt() if status == "interrupted" else OSError()
    leave("track", Track(**settings), error, work)
    run = here / "r"
    out = out[0] if out else shown(run)
    assert out.startswith(f"{here / 'r'}: track, {status}")
    assert fact(out, "progress") == "epoch 7 of 20; about 0:01:44 left"
    assert fact(out, "settings") == "checkpoint every 2, noise 0.25"
    assert fact(out, "corrupt") == "0.1250 at noise 0.25"
    assert fact(out, "seed") == "5"
    assert fact(out, "data").endswith("images of 32 x 16, 2 classes, 3 unreadable")
    assert fact(out, "train loss").split() == ["2.000", "▁▁▁▁▁▁▁", "2.000"]
    assert fact(out, "images/s").split()[0] == "1,234"
    assert "record accuracy" not in out
    assert out.splitlines()[-1].endswith(f": {resume_command(run, read_info(run))}")
    assert ("; last epoch " in fact(out, "times")) == (status == "running")


def test_a_run_that_has_not_loaded_its_data(here, shown):
    settings = {"model": "mlp", "optimizer": "sgd", "lr": 0.1, "batch_size": 32, "epochs": 3}
    leave("retrain", Retrain(out=here / "r", **settings), KeyboardInterrupt())
    out = shown(here / "r")
    assert fact(out, "progress") == "none yet"
    assert fact(out, "files") == "none yet"


def test_an_unfinished_retrain(here, shown):
    """Both seeds of easy and one of hard are finished, the other is in training; three controls each."""
    shared = {"model": "mlp", "optimizer": "sgd", "batch_size": 32, "augment": "none"}
    tracked = {"data": "digits", "noise": 0.0, **shared}
    settings = {"out": here / "r", "split": here / "q.parquet", "seeds": 2, "epochs": 3, "lr": 0.1}
    config = Retrain(**settings, weight_decay=0.5, **shared)

    def work(run):
        run.update(data=DATA, fingerprint="abc", device="cpu", tracked=tracked, split={"controls": 3})
        log = []
        for name, seed, top1 in (("easy", 0, 0.5), ("hard", 0, 0.25), ("easy", 1, 1.0), ("hard", 1, None)):
            key = {"trained_on": name, "optimizer": "sgd", "noise": 0.0, "seed": seed}
            log += [{**key, "epoch": epoch, **LINE} for epoch in ((1, 2, 3) if top1 else (1,))]
            rows = [
                {**key, "epoch": epoch, "measured_on": where, "top1": top1 and top1 * epoch / 3}
                for epoch in range(4)
                for where in ("easy", "train")
            ]
            if top1:
                files.write_table(run.path / f"members/{name}-{seed}.parquet", pd.DataFrame(rows), "abc")
        write_log(run.path, log)

    leave("retrain", config, KeyboardInterrupt(), work)
    out = shown(here / "r")
    assert fact(out, "progress") == "18 networks, epoch 10 of 54; last: 1/3 of hard, seed 1"
    assert fact(out, "data").startswith("digits: ")
    assert fact(out, "settings") == "weight decay 0.5"  # the rest is as tracked
    assert fact(out, "easy").split() == ["finished", "0.750", "0.750"]
    assert fact(out, "hard") == "1/2 finished  0.250  0.250"
    for name in ("random", "easy-control", "hard-control", "easy-control-3"):
        assert fact(out, name) == "not started"


def test_a_memorize_cut_off_and_finished(here, monkeypatch, shown):
    config = {"noise": (0.5,), "optimizers": ("sgd", "rm3"), "epochs": 2, "out": here / "r"}
    config["batch_size"] = 256
    log = RunFolder.log

    def log_and_stop(self, **line):
        log(self, **line)
        if line["optimizer"] == "rm3":
            raise KeyboardInterrupt

    monkeypatch.setattr(grid.RunFolder, "log", log_and_stop)
    with pytest.raises(KeyboardInterrupt):
        memorize(Memorize(**config))
    monkeypatch.setattr(grid.RunFolder, "log", log)
    out = shown(here / "r")
    assert fact(out, "progress").startswith("2 networks, epoch 3 of 4; last: 1/2 of rm3, noise 0.5, seed 0")
    assert fact(out, "corrupt") == "0.4600 at noise 0.5"
    assert fact(out, "rm3, noise 0.5") == "epoch 1/2"
    memorize(Memorize(**config, resume=True))
    out = shown(here / "r")
    curves = pd.read_parquet(here / "r/curves.parquet").query("epoch == 2")
    for optimizer in ("sgd", "rm3"):
        top1 = curves[curves["optimizer"] == optimizer].set_index("measured_on")["top1"]
        names = ("pristine", "corrupt", "corrupt-clean", "train", "validation")
        expected = ["finished", *(f"{top1[name]:.3f}" for name in names)]
        assert fact(out, f"{optimizer}, noise 0.5").split() == expected
    assert fact(out, "progress") == "2 networks, epoch 4 of 4"


def test_by_default_the_run_that_started_last(here, capsys):
    for number in (1, 2):
        with RunFolder("track", Track()) as run:
            run.log(epoch=1)
        times = {"started": f"2026-01-0{3 - number}T00:00:00+00:00"}
        change_info(run.path, times=read_info(run.path)["times"] | times)
    assert show(Show()).as_posix() == "runs/track-1"
    assert capsys.readouterr().out.startswith("runs/track-1: track, finished")
