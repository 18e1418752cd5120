"""memorize --lr-from: each optimizer's learning rate by pristine accuracy."""

import shutil

import pandas as pd
import pytest

from hardness import files, optim
from hardness.runs.learning_rates import best_rates
from hardness.runs.reading import read_info
from hardness.runs.settings import resume_command
from hardness.stages.compare import Compare, compare
from hardness.stages.memorize import Memorize, memorize
from hardness.stages.show import Show, show
from tests.conftest import refused
from tests.made_runs import change_info, memorized_run

QUICK = {"noise": (0.5,), "epochs": 1, "batch_size": 256}


def rows(*found) -> pd.DataFrame:
    """(run, optimizer, lr, noise, epoch, pristine top-1), and a decoy that is better where lr is larger."""
    rows = [
        (*row[:5], measured_on, top1)
        for row in found
        for measured_on, top1 in (("pristine", row[5]), ("validation", row[2]))
    ]
    return pd.DataFrame(rows, columns=["run", "optimizer", "lr", "noise", "epoch", "measured_on", "top1"])


def test_the_best_mean_over_seeds_and_noise_levels_below_one_at_the_last_epoch():
    curves = rows(
        ("a", "sgd", 0.1, 0.0, 2, 0.9),
        ("a", "sgd", 0.1, 0.5, 2, 0.5),  # mean 0.7
        ("b", "sgd", 0.2, 0.0, 2, 0.7),
        ("b", "sgd", 0.2, 0.5, 2, 0.9),  # mean 0.8
        ("a", "sgd", 0.1, 0.0, 1, 1.0),  # an earlier epoch does not count,
        ("a", "sgd", 0.1, 1.0, 2, 1.0),  # nor does noise 1
        # Three seeds with the same mean in another order: the smaller rate.
        *(("b", "m3", 0.2, 0.5, 2, top1) for top1 in (0.3, 0.2, 0.1)),
        *(("a", "m3", 0.1, 0.5, 2, top1) for top1 in (0.1, 0.2, 0.3)),
    )
    assert best_rates(curves) == {"m3": 0.1, "sgd": 0.2}


def test_runs_of_a_rate_are_averaged_each_at_its_own_last_epoch():
    curves = rows(
        ("a", "sgd", 0.1, 0.5, 9, 0.9), ("b", "sgd", 0.1, 0.5, 2, 0.1), ("c", "sgd", 0.2, 0.5, 2, 0.6)
    )
    assert best_rates(curves) == {"sgd": 0.2}


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """Runs with three rates: the middle one is best for SGD, the largest for RM3."""
    runs = []
    for lr, *top1 in ((0.05, 0.1, 0.1), (0.1, 0.3, 0.2), (0.2, 0.2, 0.3)):
        of_optimizer = dict(zip(("sgd", "rm3"), top1, strict=True))
        out = tmp_path_factory.mktemp("searched") / f"lr{lr}"
        config = {**QUICK, "optimizers": ("sgd", "rm3"), "seeds": 1, "lr": lr}
        runs.append(memorized_run(out, lambda optimizer, of=of_optimizer, **_: of[optimizer], **config))
    return tuple(runs)


def test_each_optimizer_is_trained_with_its_own_rate(searched, here, monkeypatch, capsys):
    built, build = [], optim.build
    monkeypatch.setattr(optim, "build", lambda *a: built.append((a[0], a[2])) or build(*a))
    config = {**QUICK, "optimizers": ("rm3", "sgd"), "lr_from": searched}
    run = memorize(Memorize(**config, out=here / "r"))
    assert built == [("rm3", 0.2), ("sgd", 0.1)]
    out, err = capsys.readouterr()
    assert "sgd: learning rate 0.1 " in out
    (warning,) = err.splitlines()
    assert "rm3: 0.2 is the largest " in warning
    info = read_info(run)
    assert info["learning_rates"] == {"rm3": 0.2, "sgd": 0.1}
    assert info["config"]["lr"] is None
    paths = " ".join(map(str, searched))
    assert f"--lr-from {paths}" in resume_command(run, info)
    assert " --lr " not in resume_command(run, info)
    show(Show(run=run))
    compare(Compare(runs=(searched[0], run)))
    out = capsys.readouterr().out
    assert "rm3 0.2; sgd 0.1" in out
    assert f"lr from {searched[0]}" in out
    # A finished run is not trained again; a run with a rate per optimizer can be searched, too.
    memorize(Memorize(**config, out=here / "r"))
    assert len(built) == 2
    again = memorize(Memorize(**QUICK, optimizers=("sgd",), lr_from=(run,), out=here / "again"))
    assert read_info(again)["learning_rates"] == {"sgd": 0.1}
    assert "warning" not in capsys.readouterr().err


def test_a_run_of_an_older_version_has_one_rate(searched, here):
    info = read_info(searched[0])
    assert info["learning_rates"] == {"sgd": 0.05, "rm3": 0.05}
    assert "--lr 0.05" in resume_command(searched[0], info)
    assert "lr-from" not in resume_command(searched[0], info)
    # A run of a version without search is the same run, and can be searched.
    older = shutil.copytree(searched[0], here / "older")
    del info["learning_rates"], info["config"]["lr_from"]
    files.write_json(older / "run.json", info)
    before = (older / "run.json").read_bytes()
    memorize(Memorize(**QUICK, optimizers=("sgd", "rm3"), lr=0.05, out=older))
    assert (older / "run.json").read_bytes() == before
    info["status"] = "interrupted"
    files.write_json(shutil.copytree(older, here / "runs/memorize-1") / "run.json", info)
    memorize(Memorize(**QUICK, optimizers=("sgd", "rm3"), lr=0.05, resume=True))
    assert [path.name for path in (here / "runs").iterdir()] == ["memorize-1"]
    run = memorize(Memorize(**QUICK, optimizers=("sgd",), lr_from=(older,), out=here / "r"))
    assert read_info(run)["learning_rates"] == {"sgd": 0.05}
    default = memorize(Memorize(**QUICK, optimizers=("sgd",), out=here / "default"))
    assert read_info(default)["config"]["lr"] == 0.2


def test_runs_that_cannot_be_searched_are_refused_and_leave_nothing(searched, made_run, here):
    def copied(name, **info):
        run = shutil.copytree(searched[0], here / name)
        change_info(run, **info)
        return run

    def recorded(name, column, value):
        run = copied(name)
        curves = pd.read_parquet(run / "curves.parquet").assign(**{column: value})
        files.write_table(run / "curves.parquet", curves, read_info(run)["fingerprint"])
        return run

    levels = "0.05 at 0.1; 0.1 at 0.5; 0.2 at 0.5"
    for runs, optimizer, code, values in (
        ([made_run], "sgd", "other-stage", {"stage": "memorize"}),
        ([copied("cut", status="interrupted")], "sgd", "run-not-finished", {"status": "interrupted"}),
        ([copied("other", fingerprint="abc")], "sgd", "lr-from-other-data", {"found": "abc"}),
        (searched, "m3", "lr-from-lacks-optimizer", {"optimizer": "m3"}),
        ([recorded("one", "noise", 1.0)], "sgd", "lr-from-lacks-optimizer", {"optimizer": "sgd"}),
        ([recorded("none", "measured_on", "corrupt")], "sgd", "lr-from-lacks-optimizer", {}),
        ([recorded("less", "noise", 0.1), *searched[1:]], "sgd", "lr-from-noise-differs", {"found": levels}),
    ):
        config = Memorize(**QUICK, optimizers=(optimizer,), lr_from=tuple(runs), out=here / "r")
        with refused(code, **values):
            memorize(config)
        assert not (here / "r").exists()
