import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.cells import cell_len

from hardness import console
from hardness.findings.label_errors import detection
from hardness.page.sections import all_sections
from hardness.runs.reading import read_info
from hardness.stages.labels import Labels, labels
from hardness.stages.track import Track, track
from tests.conftest import assert_refused, refused, write_image
from tests.made_runs import tracked_run


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """Trained: that its scores find the corrupt labels is the claim."""
    return track(Track(epochs=6, lr=0.01, noise=0.3, out=tmp_path_factory.mktemp("shared") / "noisy"))


def test_the_most_suspicious_labels_come_first(noisy, capsys):
    found = pd.read_parquet(labels(Labels(run=noisy)))
    out = capsys.readouterr().out
    scores = pd.read_parquet(noisy / "scores.parquet")
    examples = pd.read_parquet(noisy / "examples.parquet")
    assert found["rank"].tolist() == list(range(1, 1438))
    assert found["score"].is_monotonic_increasing
    assert found["score"].tolist() == scores["aum"][found["example_id"]].tolist()
    num_corrupt = examples["is_corrupt"].sum()
    first = examples.loc[found["example_id"][:num_corrupt]]
    assert first["is_corrupt"].mean() > 0.9
    suggested = found["suggested_label"][:num_corrupt].to_numpy(float, na_value=-1)
    assert (suggested == first["clean_label"])[first["is_corrupt"].to_numpy()].mean() > 0.85
    assert f"{num_corrupt} most suspicious labels, {first['is_corrupt'].mean():.3f} are corrupt" in out
    judged = detection(scores, examples["is_corrupt"].to_numpy()).set_index("score")
    row = next(line for line in out.splitlines() if line.startswith("aum"))
    assert row.split() == ["aum", *(f"{value:.3f}" for value in judged.loc["aum"][:2])]


def test_the_suggestion_is_the_last_prediction_against_the_label(noisy):
    found = pd.read_parquet(labels(Labels(run=noisy))).set_index("example_id")["suggested_label"]
    records = pd.read_parquet(noisy / "dynamics").astype({"epoch": int}).sort_values("epoch")
    against = records[records["prediction"] != records["given_label"]]
    expected = against.groupby("example_id")["prediction"].last()
    assert found.dropna().sort_index().astype(int).tolist() == expected.tolist()
    assert found.isna().sum() == 1437 - len(expected)


def test_without_label_noise_labels_are_only_ranked(capsys, tmp_path):
    run = tracked_run(tmp_path / "run")
    found = pd.read_parquet(labels(Labels(run=run, by="first_learned_epoch")))
    assert "corrupt" not in capsys.readouterr().out
    never = found["score"].isna().to_numpy()
    assert never[: never.sum()].all()
    assert never.any()
    assert np.diff(found["score"].dropna()).max() <= 0


def test_missing_runs_and_scores_are_refused(tmp_path, hardness):
    run = tracked_run(tmp_path / "run", epochs=1)
    with refused("not-scored", path=str(run / "scores.parquet"), score="grand"):
        labels(Labels(run=run, by="grand"))
    assert_refused(hardness("labels"), "no-runs", "runs/", "track")
    assert_refused(hardness("labels", "--run", run, "--by", "amu"), "unknown-name", "amu", "aum")


@pytest.mark.parametrize("num_wrong", [100, 1437])
def test_given_labels_are_compared_with_the_clean_ones(here, capsys, made_run, num_wrong):
    """If all of them are wrong, there is nothing to detect."""
    given = pd.read_parquet(made_run / "examples.parquet")["clean_label"].to_numpy().copy()
    given[:num_wrong] = (given[:num_wrong] + 1) % 10
    pd.DataFrame({"example_id": range(1437), "label": given}).to_csv("given.csv", index=False)
    run = tracked_run(here / "r", epochs=3, given_labels=here / "given.csv")
    assert read_info(run)["noise_rate"] == pytest.approx(num_wrong / 1437)
    labels(Labels(run=run))
    assert (" AUROC " in capsys.readouterr().out) == (num_wrong < 1437)
    if num_wrong == 1437:
        assert all_sections({run: read_info(run)})


def test_in_80_columns_file_names_and_numbers_are_complete(here, hardness, monkeypatch):
    """With ImageNet's class names, and a run with a long name."""
    shark = "great white shark, white shark, man-eater, man-eating shark, Carcharodon carcharias"
    for number, name in enumerate((shark, shark.replace("great white", "tiger"), f"{shark} (juvenile)")):
        for index in range(8):
            write_image(here / f"images/train/{name}/n01484850_{index}.JPEG.png", seed=100 * number + index)
        write_image(here / f"images/val/{name}/0.png", seed=number + 1000)
    runs = [f"runs/2024-sharks/tracked-with-the-small-network-at-seed-{seed}" for seed in (0, 1)]
    for seed, run in enumerate(runs):
        tracked_run(here / run, data=f"imagefolder:{here / 'images'}", seed=seed)
    monkeypatch.setattr(console._out, "width", 80)
    answer = hardness("labels", "--run", runs[0])
    title, header, *rows = answer.out.splitlines()
    assert title.startswith("The 10 most suspicious")
    assert header.split() == ["key", "given", "suggested", "aum"]
    found = pd.read_parquet(here / runs[0] / "labels.parquet").head(10)
    numbers = [row.split()[-1] for row in rows if re.search(r" -?[\d.]+$", row)]
    assert numbers == [f"{score:.4g}" for score in found["score"]]
    assert max(map(cell_len, rows)) <= 80
    # The key is in the first column; it wraps.
    whole = "".join(row[: header.index("given")].strip() for row in rows).replace(" ", "")
    assert all(key.replace(" ", "") in whole for key in found["key"])
    answer = hardness("split", "--run", runs[0], "--quantile", 0.4)
    assert "tiger shark, white shark" in answer.out
    assert max(map(cell_len, answer.out.splitlines()[:-1])) <= 80
    answer = hardness("compare", *runs)
    header = next(line for line in answer.out.splitlines() if "difference" in line).split()
    assert header[0].endswith("0")
    assert header[1].endswith("1")


def test_the_csv_has_class_names_and_other_files_stay(here, hardness, image_folder):
    run = tracked_run(here / "run", data=f"imagefolder:{image_folder}")
    hardness("labels", "--run", run, "--top", 5, "--csv", "suspects.csv")
    hardness("labels", "--run", run, "--top", 3, "--csv", "suspects.csv")
    found = pd.read_csv("suspects.csv")
    assert list(found) == ["rank", "path", "key", "example_id", "given_label", "suggested_label", "score"]
    assert found["rank"].tolist() == [1, 2, 3]
    assert all(Path(path).is_file() and Path(path).is_absolute() for path in found["path"])
    assert set(found["given_label"]) <= set(read_info(run)["data"]["class_names"])
    (here / "mine.csv").write_text("a,b\n")
    answer = hardness("labels", "--run", run, "--csv", "mine.csv")
    assert_refused(answer, "path-occupied", "mine.csv")
    assert_refused(hardness("labels", "--run", run, "--top", 0), "out-of-range", "--top")
    digits = tracked_run(here / "digits")
    hardness("labels", "--run", digits, "--csv", "digits.csv")
    assert "path" not in pd.read_csv("digits.csv")
