"""Two runs side by side in the terminal."""

import shutil

import pandas as pd

from hardness.stages.compare import Compare, compare
from tests.conftest import assert_refused
from tests.made_runs import tracked_run


def rows(text: str) -> dict[str, list[str]]:
    """First cell -> the others: cells are two spaces apart."""
    lines = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in text.splitlines()]
    return {line[0]: line[1:] for line in lines if line}


def test_settings_numbers_and_agreement_of_two_tracked_runs(made_run, tmp_path, capsys):
    other = tracked_run(tmp_path / "other", epochs=2, lr=0.01, seed=1)
    compare(Compare(runs=(made_run, other)))
    text = capsys.readouterr().out
    found = rows(text)
    assert found["epochs"] == ["6", "2"]
    assert found["lr"] == ["0.02", "0.01"]
    assert found["seed"] == ["0", "1"]
    assert not {"model", "out", "fingerprint", "git_commit"} & found.keys()
    first, second = (
        pd.read_parquet(run / "scores.parquet")["first_learned_epoch"].isna().mean()
        for run in (made_run, other)
    )
    assert found["never learned"] == [f"{first:.3f}", f"{second:.3f}", f"{second - first:+.3f}"]
    assert len(found["validation top1"]) == 3
    assert "epochs+lr+seed (1 pair)" in text


def test_a_memorization_run_and_its_copy(memorized, tmp_path, capsys):
    copy = shutil.copytree(memorized, tmp_path / "copy")
    compare(Compare(runs=(memorized, copy)))
    found = rows(capsys.readouterr().out)
    assert found["none"] == []
    differences = [cells[-1] for name, cells in found.items() if name.startswith("noise ")]
    assert len(differences) > 5
    assert set(differences) == {"+0.000"}
    # Two seeds have an interval.
    assert "[" in found["noise 0.5: sgd at the maximum"][0]


def test_runs_that_cannot_be_compared_are_refused(hardness, made_run, retrained, tmp_path):
    for other, code in (
        (retrained, "other-stage"),
        (made_run, "repeated-run"),
        (tmp_path / "none", "not-a-run"),
    ):
        assert_refused(hardness("compare", made_run, other), code, other)
