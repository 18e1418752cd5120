"""memorize --lr-from: each optimizer's learning rate by pristine accuracy."""

import shutil

import pandas as pd
import pytest

from hardness import files
from hardness.config import Compare, Memorize, Show
from hardness.errors import UserError
from hardness.stages import grid
from hardness.stages.compare import compare
from hardness.stages.learning_rates import best_rates
from hardness.stages.memorize import memorize
from hardness.stages.run_folder import read_info
from hardness.stages.run_settings import resume_command
from hardness.stages.show import show

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
        ("a", "sgd", 0.1, 0.5, 2, 0.5),  # 0.7
        ("b", "sgd", 0.2, 0.0, 2, 0.7),
        ("b", "sgd", 0.2, 0.5, 2, 0.9),  # 0.8, with an epoch and a noise level
        ("a", "sgd", 0.1, 0.0, 1, 1.0),
        ("a", "sgd", 0.1, 1.0, 2, 1.0),  # that do not count
        # Three seeds that come to the same in another order: the smaller rate.
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
    """Runs of three rates, whose curves say that the middle one is best for SGD and the largest for RM3."""
    runs = []
    for lr, sgd, rm3 in ((0.05, 0.1, 0.1), (0.1, 0.3, 0.2), (0.2, 0.2, 0.3)):
        out = tmp_path_factory.mktemp("searched") / f"lr{lr}"
        memorize(Memorize(**QUICK, optimizers=("sgd", "rm3"), lr=lr, out=out))
        curves = pd.read_parquet(out / "curves.parquet")
        curves["top1"] = curves["optimizer"].map({"sgd": sgd, "rm3": rm3})
        files.write_table(out / "curves.parquet", curves, read_info(out)["fingerprint"])
        runs.append(out)
    return tuple(runs)


def test_each_optimizer_is_trained_with_its_own_rate_and_it_is_told(searched, here, monkeypatch, capsys):
    built, build = [], grid.optim.build
    monkeypatch.setattr(grid.optim, "build", lambda *a: built.append((a[0], a[2])) or build(*a))
    config = {**QUICK, "optimizers": ("rm3", "sgd"), "lr_from": searched}
    run = memorize(Memorize(**config, out=here / "r"))
    assert built == [("rm3", 0.2), ("sgd", 0.1)]
    told = capsys.readouterr()
    assert "sgd: learning rate 0.1, of 0.05 0.1 0.2, by pristine accuracy" in told.out
    (caution,) = told.err.splitlines()
    assert caution.endswith("rm3: 0.2 is the largest learning rate of those searched; try larger ones")
    info = read_info(run)
    assert info["learning_rates"] == {"rm3": 0.2, "sgd": 0.1}
    assert info["config"]["lr"] is None
    paths = " ".join(map(str, searched))
    assert f"--lr-from {paths}" in resume_command(run, info)
    assert " --lr " not in resume_command(run, info)
    show(Show(run=run))
    compare(Compare(runs=(searched[0], run)))
    told = capsys.readouterr().out
    assert "rm3, sgd, lr of each by search: rm3 0.2; sgd 0.1, batch size" in told
    assert f"lr from {searched[0]}" in told
    # By runs of which each optimizer has a rate of its own, and a finished run is not trained again.
    memorize(Memorize(**config, out=here / "r"))
    assert len(built) == 2
    again = memorize(Memorize(**QUICK, optimizers=("sgd",), lr_from=(run,), out=here / "again"))
    assert read_info(again)["learning_rates"] == {"sgd": 0.1}
    assert "warning" not in capsys.readouterr().err


def test_without_a_search_a_run_is_as_it_was(searched, here):
    info = read_info(searched[0])
    assert info["learning_rates"] == {"sgd": 0.05, "rm3": 0.05}
    assert "--lr 0.05" in resume_command(searched[0], info)
    assert "lr-from" not in resume_command(searched[0], info)
    # A run of a version that knew no search, which is the same one, and says its rate.
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


def test_what_cannot_be_searched_is_refused_and_leaves_nothing(searched, tracked, here):
    def copied(name, **info):
        run = shutil.copytree(searched[0], here / name)
        files.write_json(run / "run.json", read_info(run) | info)
        return run

    def recorded(name, column, value):
        run = copied(name)
        curves = pd.read_parquet(run / "curves.parquet").assign(**{column: value})
        files.write_table(run / "curves.parquet", curves, read_info(run)["fingerprint"])
        return run

    for runs, optimizer, told in (
        ([tracked], "sgd", "expected a run of memorize"),
        ([copied("cut", status="interrupted")], "sgd", "one that is interrupted"),
        ([copied("other", fingerprint="abc")], "sgd", "other of data set abc"),
        (searched, "m3", "expected m3, trained on pristine examples"),
        ([recorded("one", "noise", 1.0)], "sgd", "expected sgd, trained on pristine examples"),
        ([recorded("none", "measured_on", "corrupt")], "sgd", "expected sgd, trained on pristine"),
        ([recorded("less", "noise", 0.1), *searched[1:]], "sgd", "found 0.05 at 0.1; 0.1 at 0.5; 0.2 at 0.5"),
    ):
        config = Memorize(**QUICK, optimizers=(optimizer,), lr_from=tuple(runs), out=here / "r")
        with pytest.raises(UserError) as refused:
            memorize(config)
        assert told in str(refused.value)
        assert not (here / "r").exists()
