import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.cells import cell_len

from hardness import console
from hardness.config import Labels, Track
from hardness.errors import UserError
from hardness.label_errors import detection
from hardness.stages.labels import labels
from hardness.stages.track import track
from tests.conftest import write_image


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    return track(Track(epochs=6, lr=0.01, noise=0.3, out=tmp_path_factory.mktemp("shared") / "noisy"))


def test_the_most_suspicious_labels_come_first(noisy, capsys):
    found = pd.read_parquet(labels(Labels(run=noisy)))
    told = capsys.readouterr().out
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
    assert f"of the {num_corrupt} most suspicious labels {first['is_corrupt'].mean():.3f} are corrupt" in told
    judged = detection(scores, examples["is_corrupt"].to_numpy()).set_index("score")
    row = next(line for line in told.splitlines() if line.startswith("aum"))
    assert row.split() == ["aum", *(f"{value:.3f}" for value in judged.loc["aum"][:2])]


def test_the_suggestion_is_the_last_prediction_against_the_label(noisy):
    found = pd.read_parquet(labels(Labels(run=noisy))).set_index("example_id")["suggested_label"]
    records = pd.read_parquet(noisy / "dynamics").astype({"epoch": int}).sort_values("epoch")
    against = records[records["prediction"] != records["given_label"]]
    expected = against.groupby("example_id")["prediction"].last()
    assert found.dropna().sort_index().astype(int).tolist() == expected.tolist()
    assert found.isna().sum() == 1437 - len(expected)


def test_where_the_truth_is_not_known_the_ranking_is_all(tracked, capsys, tmp_path):
    run = shutil.copytree(tracked, tmp_path / "copy")
    found = pd.read_parquet(labels(Labels(run=run, by="first_learned_epoch")))
    assert "corrupt" not in capsys.readouterr().out
    never = found["score"].isna().to_numpy()
    assert never[: never.sum()].all()
    assert never.any()
    assert np.diff(found["score"].dropna()).max() <= 0


def test_what_is_missing_is_said(noisy, tmp_path, hardness):
    with pytest.raises(
        UserError, match=r"a column grand in .*; found none; run `hardness score --run .* --w"
    ):
        labels(Labels(run=noisy, by="grand"))
    assert hardness("labels").err.startswith("hardness: expected a finished run of track under runs/")
    answer = hardness("labels", "--run", noisy, "--by", "amu")
    assert answer.status == 2
    assert "did you mean aum" in answer.err


def test_where_all_labels_are_corrupt_there_is_nothing_to_judge(hardness, here):
    clean = pd.read_parquet(track(Track(epochs=1, out=here / "clean")) / "examples.parquet")
    given = (clean["clean_label"] + 1) % 10
    pd.DataFrame({"example_id": clean["example_id"], "label": given}).to_csv(here / "given.csv", index=False)
    assert hardness("track", "--epochs", 1, "--given-labels", "given.csv", "--out", "r").status == 0
    answer = hardness("labels", "--run", "r")
    assert answer.status == 0
    assert "How each score" not in answer.out
    answer = hardness("report", "--runs", "r", "--out", "report")
    assert answer.status == 0, answer.err
    assert "finds the corrupt labels" not in answer.out


def test_given_labels_are_judged_by_the_clean_ones(hardness, here):
    clean = pd.read_parquet(track(Track(epochs=1, out=here / "clean")) / "examples.parquet")
    given = clean["clean_label"].to_numpy().copy()
    given[:100] = (given[:100] + 1) % 10
    pd.DataFrame({"example_id": clean["example_id"], "label": given}).to_csv(here / "given.csv", index=False)
    assert hardness("track", "--epochs", 3, "--given-labels", "given.csv", "--out", "r").status == 0
    answer = hardness("labels", "--run", "r")
    assert "How each score finds the 100 corrupt labels of 1,437" in answer.out
    assert json.loads((here / "r/run.json").read_text())["noise_rate"] == pytest.approx(100 / 1437)


def test_at_80_columns_files_and_numbers_are_whole(here, hardness, monkeypatch):
    """With ImageNet's class names, and a run of a long name."""
    shark = "great white shark, white shark, man-eater, man-eating shark, Carcharodon carcharias"
    for number, name in enumerate((shark, shark.replace("great white", "tiger"), f"{shark} (juvenile)")):
        for index in range(8):
            write_image(here / f"images/train/{name}/n01484850_{index}.JPEG.png", seed=100 * number + index)
        write_image(here / f"images/val/{name}/0.png", seed=number + 1000)
    runs = [f"runs/2024-sharks/tracked-with-the-small-network-at-seed-{seed}" for seed in (0, 1)]
    for seed, run in enumerate(runs):
        data = ("--data", f"imagefolder:{here / 'images'}", "--model", "mlp", "--workers", 0)
        answer = hardness("track", *data, "--epochs", 1, "--batch-size", 8, "--seed", seed, "--out", run)
        assert answer.status == 0, answer.err
    monkeypatch.setattr(console._out, "width", 80)
    answer = hardness("labels", "--run", runs[0])
    title, header, *rows = answer.out.splitlines()[:12]
    assert title.startswith("The 10 most suspicious")
    assert header.split() == ["key", "given", "suggested", "aum"]
    found = pd.read_parquet(here / runs[0] / "labels.parquet").head(10)
    for row, key, score in zip(rows, found["key"], found["score"], strict=True):
        assert cell_len(row) <= 80
        assert f"/{Path(key).name} " in row
        assert row.split()[-1] == f"{score:.4g}"
    answer = hardness("split", "--run", runs[0], "--quantile", 0.4)
    lines = answer.out.splitlines()
    classes = lines[next(k for k, line in enumerate(lines) if line.startswith("class ")) + 1 :][:3]
    assert len({re.sub(r"( +\d+){5}$", "", line) for line in classes}) == 3
    assert all(re.search(r"( +\d+){5}$", line) and len(line) <= 80 for line in classes)
    answer = hardness("compare", *runs)
    header = next(line for line in answer.out.splitlines() if "difference" in line).split()
    assert header[0].endswith("0")
    assert header[1].endswith("1")
