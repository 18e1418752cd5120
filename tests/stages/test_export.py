import csv
import json
import math
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from hardness import files
from hardness.dynamics import store
from hardness.exporters.known import known
from hardness.runs.reading import read_info
from hardness.stages.export import Export, export
from hardness.stages.split import Split, split
from tests.conftest import assert_refused, refused, write_image
from tests.made_runs import change_info, tracked_run, write_records

_CLASSES = ("cat", "dog", "eel")


@pytest.fixture(scope="module")
def images_run(tmp_path_factory):
    """A run on 24 images with label noise, one of them unreadable, with two splits and self-confidence."""
    root = tmp_path_factory.mktemp("shared")
    for number, name in enumerate(_CLASSES):
        for part, count in (("train", 8), ("val", 1)):
            for index in range(count):
                write_image(root / f"images/{part}/{name}/{index}.png", seed=100 * number + index)
    (root / "images/train/cat/3.png").write_bytes(b"not an image")
    settings = {"data": f"imagefolder:{root / 'images'}", "on_bad_image": "null", "noise": 0.5}
    run = tracked_run(root / "run", **settings, epochs=2)
    add_self_confidence(run)
    split(Split(run=(run,), quantile=0.5))
    split(Split(run=(run,), quantile=0.1))
    return run


def add_self_confidence(run):
    """Two folds of random probabilities, and the score that they give, as its probe writes them."""
    examples, fingerprint = pd.read_parquet(run / "examples.parquet"), read_info(run)["fingerprint"]
    ids = examples["example_id"][examples["is_readable"]].to_numpy()
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), len(examples)).astype(np.float32)
    for fold in range(2):
        members = ids[fold::2]
        lists = pa.FixedSizeListArray.from_arrays(probabilities[members].ravel(), 3)
        table = pa.table({"example_id": members, "probabilities": lists})
        files.write_table(run / f"out-of-fold/fold={fold}.parquet", table, fingerprint)
    of_label = probabilities[np.arange(len(examples)), examples["given_label"]].astype(float)
    scores = pd.read_parquet(run / "scores.parquet")
    scores["self_confidence"] = np.where(examples["is_readable"], of_label, np.nan)
    files.write_table(run / "scores.parquet", scores, fingerprint)


@pytest.fixture
def run(images_run, tmp_path):
    return shutil.copytree(images_run, tmp_path / "run")


def test_one_row_per_example(images_run, tmp_path):
    path = export(Export(run=images_run, out=tmp_path / "x.csv"))
    table = pd.read_csv(path)
    examples, scores = (pd.read_parquet(images_run / f"{name}.parquet") for name in ("examples", "scores"))
    assert len(table) == 24
    for name in ("example_id", "key", "is_corrupt"):
        assert table[name].tolist() == examples[name].tolist()
    for name in ("given_label", "clean_label"):
        assert table[f"{name}_index"].tolist() == examples[name].tolist()
        assert table[name].tolist() == [_CLASSES[label] for label in examples[name]]
    assert table.loc[~table["is_readable"], "key"].tolist() == ["train/cat/3.png"]
    names = scores.columns.drop("example_id")
    pd.testing.assert_frame_equal(table[names], scores[names], check_dtype=False)
    last = pd.read_parquet(store.epoch_folder(images_run, 2)).set_index("example_id")["prediction"]
    assert table["prediction_index"].equals(last.astype(float).rename("prediction_index"))
    named = [None if math.isnan(label) else _CLASSES[int(label)] for label in table["prediction_index"]]
    assert table["prediction"].replace({np.nan: None}).tolist() == named


def test_several_subsets_of_an_example_share_a_cell(images_run, tmp_path):
    table = pd.read_csv(export(Export(run=images_run, out=tmp_path / "x.csv")))
    for name in ("q0.1", "q0.5"):
        by_example = pd.read_parquet(images_run / f"splits/{name}.parquet").groupby("example_id")
        subsets, folds = by_example["subset"].agg(";".join), by_example["fold"].first()
        for column, expected in ((f"split/{name}", subsets), (f"fold/{name}", folds)):
            assert table[column].dropna().to_dict() == expected.to_dict()
    assert table["split/q0.5"].str.startswith("easy;random").any()
    assert table["split/q0.1"].isna().any()


def test_keys_survive(run):
    examples, fingerprint = pd.read_parquet(run / "examples.parquet"), read_info(run)["fingerprint"]
    odd = ["a,b", 'say "no"', "two\nlines", "two\r\nlines", "=1+1", " ", "", "Zoë 猫", "a;b", "'", "\\", "NA"]
    keys = [*odd, *examples["key"][len(odd) :]]
    files.write_table(run / "examples.parquet", examples.assign(key=keys), fingerprint)
    path = export(Export(run=run))
    assert path == run / "export.csv"
    with path.open(encoding="utf-8", newline="") as file:
        assert [row["key"] for row in csv.DictReader(file)] == keys


def test_the_probability_of_a_prediction_follows_from_its_record(run):
    generator = torch.Generator().manual_seed(0)
    logits, labels = 3 * torch.randn(24, 3, generator=generator), torch.arange(24) % 3
    info = read_info(run)
    write_records(run, 2, logits, labels, np.arange(24), info["fingerprint"], precision=np.float32)
    found = known(run, info)["prediction_confidence"].to_numpy()
    assert 0 < (logits.argmax(1) == labels).sum() < 24
    np.testing.assert_allclose(found, logits.softmax(1).amax(1), rtol=1e-5)


def test_cleanlab_gets_out_of_fold_probabilities(run):
    out = export(Export(run=run, to="cleanlab"))
    assert out == run / "export-cleanlab"
    issues = pd.read_parquet(out / "issues.parquet")
    labels, probabilities = np.load(out / "labels.npy"), np.load(out / "pred_probs.npy")
    examples = pd.read_parquet(run / "examples.parquet").drop(index=3)
    assert issues["example_id"].tolist() == examples["example_id"].tolist()
    assert labels.tolist() == issues["given_label"].tolist() == examples["given_label"].tolist()
    assert (labels.dtype, probabilities.dtype, probabilities.shape) == (np.int64, np.float32, (23, 3))
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-6)
    scores = pd.read_parquet(run / "scores.parquet").drop(index=3)
    assert issues["label_score"].tolist() == scores["self_confidence"].tolist()
    assert issues["label_score"].tolist() == probabilities[np.arange(23), labels].tolist()
    assert issues["predicted_label"].tolist() == probabilities.argmax(1).tolist()
    assert issues["is_label_issue"].dtype == bool
    assert issues["is_label_issue"].any()
    threshold = issues.groupby("given_label")["label_score"].transform("mean")
    suspect = (issues["label_score"] < threshold) & (issues["predicted_label"] != issues["given_label"])
    assert issues["is_label_issue"].tolist() == suspect.tolist()
    origin = json.loads((out / "origin.json").read_text())
    assert origin["class_names"] == list(_CLASSES)


def test_without_self_confidence_cleanlab_gets_the_mean_probability(run):
    out = export(Export(run=run, to="cleanlab"))
    scores = pq.read_table(run / "scores.parquet").drop_columns("self_confidence")
    files.write_table(run / "scores.parquet", scores, read_info(run)["fingerprint"])
    shutil.rmtree(run / "out-of-fold")
    assert export(Export(run=run, to="cleanlab")) == out
    assert {path.name for path in out.iterdir()} == {"issues.parquet", "labels.npy", "origin.json"}
    issues = pd.read_parquet(out / "issues.parquet")
    assert issues["label_score"].tolist() == scores["confidence"].drop_null().to_pylist()
    last = pd.read_parquet(store.epoch_folder(run, 2))["prediction"].dropna()
    assert issues["predicted_label"].tolist() == last.tolist()
    shutil.rmtree(run / "dynamics")
    with refused("no-records", folder=str(run / "dynamics")):
        export(Export(run=run, to="cleanlab"))
    assert "prediction" not in pd.read_csv(export(Export(run=run)))


@pytest.mark.parametrize("is_lost", [True, False])
def test_probabilities_of_other_examples_are_refused(run, is_lost):
    fold = run / "out-of-fold/fold=0.parquet"
    fold.unlink() if is_lost else shutil.copy(fold, fold.with_name("fold=2.parquet"))
    with refused("wrong-out-of-fold-examples", folder=str(run / "out-of-fold"), count=23):
        export(Export(run=run, to="cleanlab"))
    assert not (run / "export-cleanlab").exists()


def test_one_sample_per_example_for_fiftyone(images_run, tmp_path):
    out = export(Export(run=images_run, to="fiftyone", out=tmp_path / "out"))
    samples = json.loads((out / "samples.json").read_text())["samples"]
    about = json.loads((out / "metadata.json").read_text())
    table = known(images_run, read_info(images_run)).to_pylist()
    assert len(samples) == 24
    for sample, row in zip(samples, table, strict=True):
        assert sample["filepath"] == str(images_run.parent / "images" / row["key"])
        assert sample["ground_truth"]["label"] == row["given_label"]
        assert sample["clean_label"]["label"] == row["clean_label"]
        assert (sample["prediction"] or {}).get("label") == row["prediction"]
        assert (sample["prediction"] or {}).get("confidence") == row["prediction_confidence"]
        assert sample["aum"] == row["aum"]
        assert set(sample["tags"]) == {
            f"{name}/{tag}"
            for name in ("q0.1", "q0.5")
            for tag in (*(row[f"split/{name}"] or "").split(";"), row[f"fold/{name}"])
            if tag
        }
    # A field that is null in every sample is declared too.
    assert {sample.keys() == about["sample_fields"].keys() for sample in samples} == {True}
    assert {type(sample["learned_epoch"]) for sample in samples} == {float, type(None)}
    assert samples[3]["prediction"] is None
    assert not samples[3]["is_readable"]
    assert about["info"]["class_names"] == list(_CLASSES)


def test_fiftyone_needs_image_files(made_run, run, hardness):
    answer = hardness("export", "--run", made_run, "--to", "fiftyone")
    assert_refused(answer, "needs-image-folder", "--to fiftyone", "digits")
    info = read_info(run)
    info["config"]["data"] = "imagefolder:elsewhere"
    files.write_json(run / "run.json", info)
    with refused("missing-image") as caught:
        export(Export(run=run, to="fiftyone"))
    assert caught.value.values["path"].endswith("elsewhere/train/cat/0.png")
    assert not (run / "export-fiftyone").exists()


@pytest.mark.parametrize("to", ["csv", "cleanlab", "fiftyone"])
def test_only_an_older_export_of_the_same_kind_is_overwritten(images_run, tmp_path, to):
    out = tmp_path / "out"
    config = Export(run=images_run, to=to, out=out)

    def content():
        return {path: path.read_bytes() for path in (out, *out.rglob("*")) if path.is_file()}

    export(config)
    before = content()
    export(config)
    assert content() == before
    for other in {"csv", "cleanlab", "fiftyone"} - {to}:
        with refused("path-occupied", path=str(out), flag="--out"):
            export(Export(run=images_run, to=other, out=out))
    assert content() == before
    shutil.rmtree(out) if out.is_dir() else out.unlink()
    out.mkdir()
    (out / "metadata.json").write_text('{"info": {}}')
    (out / "samples.json").write_text("{}")
    with refused("path-occupied", path=str(out)):
        export(config)
    assert len(content()) == 2


def test_an_incomplete_run_is_refused(run, hardness):
    assert_refused(hardness("export"), "no-runs", "runs/")
    answer = hardness("export", "--run", run, "--to", "excel")
    assert answer.status == 2
    assert "invalid choice 'excel'" in answer.err
    change_info(run, status="interrupted")
    assert_refused(hardness("export", "--run", run), "run-not-finished", "interrupted", "--resume")
    change_info(run, status="finished")
    (run / "scores.parquet").unlink()
    answer = hardness("export", "--run", run)
    assert answer.status == 2
    assert "scores.parquet" in answer.err
    assert len(answer.err.splitlines()) == 1
    assert not (run / "export.csv").exists()
