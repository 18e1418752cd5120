"""Two runs side by side in the terminal."""

import pandas as pd
import pytest

from hardness.config import Compare, Track
from hardness.stages.compare import compare
from hardness.stages.track import track


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return track(Track(epochs=2, lr=0.01, seed=1, out=tmp_path_factory.mktemp("other") / "other"))


def rows(text: str) -> dict[str, list[str]]:
    """First cell -> the others: cells are two blanks apart."""
    lines = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in text.splitlines()]
    return {line[0]: line[1:] for line in lines if line}


def test_settings_figures_and_agreement_of_two_tracked_runs(tracked, other, capsys):
    compare(Compare(runs=(tracked, other)))
    text = capsys.readouterr().out
    found = rows(text)
    assert found["epochs"] == ["6", "2"]
    assert found["lr"] == ["0.005", "0.01"]
    assert found["seed"] == ["0", "1"]
    assert not {"model", "out", "fingerprint", "git_commit"} & found.keys()
    first, second = (
        pd.read_parquet(run / "scores.parquet")["first_learned_epoch"].isna().mean()
        for run in (tracked, other)
    )
    assert found["never learned"] == [f"{first:.3f}", f"{second:.3f}", f"{second - first:+.3f}"]
    assert len(found["validation top1"]) == 3
    assert "two runs that differ in epochs+lr+seed (1 pair), a Spearman correlation" in text


def test_two_memorization_runs_or_a_run_and_its_copy(memorized, tmp_path, capsys):
    copy = tmp_path / "copy"
    copy.symlink_to(memorized)
    compare(Compare(runs=(memorized, copy)))
    found = rows(capsys.readouterr().out)
    assert found["none"] == []
    differences = [cells[-1] for name, cells in found.items() if name.startswith("noise ")]
    assert len(differences) > 5
    assert set(differences) == {"+0.000"}
    # Two seeds have an interval.
    assert "[" in found["noise 0.5: sgd at the maximum"][0]


def test_what_cannot_be_compared_is_refused(hardness, tracked, retrained, tmp_path):
    for runs, told in (
        ((tracked, retrained), "expected two runs of the same stage"),
        ((tracked, tracked), "twice"),
        ((tracked, tmp_path / "none"), "expected a run folder"),
    ):
        answer = hardness("compare", *runs)
        assert answer.status == 2
        assert told in answer.err
        assert len(answer.err.strip().splitlines()) == 1
