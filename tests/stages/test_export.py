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
from hardness.config import Export, Score, Split, Track
from hardness.dynamics import store
from hardness.dynamics.record import record
from hardness.errors import UserError
from hardness.stages.export import export
from hardness.stages.export.known import known
from hardness.stages.run_folder import read_info
from hardness.stages.score import score
from hardness.stages.split import split
from hardness.stages.track import track
from tests.conftest import write_image

_CLASSES = ("cat", "dog", "eel")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A run on 24 pictures under label noise, one of them broken, with two splits and self-confidence."""
    root = tmp_path_factory.mktemp("shared")
    for number, name in enumerate(_CLASSES):
        for part, count in (("train", 8), ("val", 1)):
            for index in range(count):
                write_image(root / f"images/{part}/{name}/{index}.png", seed=100 * number + index)
    (root / "images/train/cat/3.png").write_bytes(b"no picture")
    settings = {"data": f"imagefolder:{root / 'images'}", "on_bad_image": "null", "noise": 0.5, "workers": 0}
    run = track(Track(**settings, epochs=2, batch_size=8, out=root / "run"))
    score(Score(run=(run,), with_=("self-confidence",), workers=0))
    split(Split(run=(run,), quantile=0.5))
    split(Split(run=(run,), quantile=0.1))
    return run


@pytest.fixture
def run(pictures, tmp_path):
    return shutil.copytree(pictures, tmp_path / "run")


def test_a_row_an_example(pictures, tmp_path):
    path = export(Export(run=pictures, out=tmp_path / "x.csv"))
    table = pd.read_csv(path)
    examples, scores = (pd.read_parquet(pictures / f"{name}.parquet") for name in ("examples", "scores"))
    assert len(table) == 24
    for name in ("example_id", "key", "is_corrupt"):
        assert table[name].tolist() == examples[name].tolist()
    for name in ("given_label", "clean_label"):
        assert table[f"{name}_index"].tolist() == examples[name].tolist()
        assert table[name].tolist() == [_CLASSES[label] for label in examples[name]]
    assert table.loc[~table["is_readable"], "key"].tolist() == ["train/cat/3.png"]
    names = scores.columns.drop("example_id")
    pd.testing.assert_frame_equal(table[names], scores[names], check_dtype=False)
    last = pd.read_parquet(store.epoch_folder(pictures, 2)).set_index("example_id")["prediction"]
    assert table["prediction_index"].equals(last.astype(float).rename("prediction_index"))
    named = [None if math.isnan(label) else _CLASSES[int(label)] for label in table["prediction_index"]]
    assert table["prediction"].replace({np.nan: None}).tolist() == named


def test_several_subsets_of_an_example_share_a_cell(pictures, tmp_path):
    table = pd.read_csv(export(Export(run=pictures, out=tmp_path / "x.csv")))
    for name in ("q0.1", "q0.5"):
        by_example = pd.read_parquet(pictures / f"splits/{name}.parquet").groupby("example_id")
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
    prediction, *numbers = record(logits, labels)
    columns = [torch.arange(24), labels, prediction, *numbers]
    arrays = [
        pa.array(column.numpy()).cast(kind) for column, kind in zip(columns, store.SCHEMA.types, strict=True)
    ]
    info = read_info(run)
    store.write_part(run, 2, pa.table(arrays, schema=store.SCHEMA), info["fingerprint"])
    found = known(run, info)["prediction_confidence"].to_numpy()
    assert (prediction == labels).any()
    assert (prediction != labels).any()
    np.testing.assert_allclose(found, logits.softmax(1).amax(1), rtol=1e-5)


def test_cleanlab_gets_what_networks_said_of_examples_that_they_had_not_seen(run):
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


def test_cleanlab_gets_the_mean_probability_where_there_is_no_other(run):
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
    with pytest.raises(UserError, match=r"records in .* choose --to csv"):
        export(Export(run=run, to="cleanlab"))
    assert "prediction" not in pd.read_csv(export(Export(run=run)))


@pytest.mark.parametrize("is_lost", [True, False])
def test_probabilities_of_other_examples_are_refused(run, is_lost):
    fold = run / "out-of-fold/fold=1.parquet"
    fold.unlink() if is_lost else shutil.copy(fold, fold.with_name("fold=2.parquet"))
    with pytest.raises(UserError, match=r"the 23 readable examples in .* --with self-confidence"):
        export(Export(run=run, to="cleanlab"))
    assert not (run / "export-cleanlab").exists()


def test_a_sample_an_example_for_fiftyone(pictures, tmp_path):
    out = export(Export(run=pictures, to="fiftyone", out=tmp_path / "out"))
    samples = json.loads((out / "samples.json").read_text())["samples"]
    about = json.loads((out / "metadata.json").read_text())
    table = known(pictures, read_info(pictures)).to_pylist()
    assert len(samples) == 24
    for sample, row in zip(samples, table, strict=True):
        assert sample["filepath"] == str(pictures.parent / "images" / row["key"])
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
    # Their kinds, so that a field that is null in every sample is there too.
    assert {sample.keys() == about["sample_fields"].keys() for sample in samples} == {True}
    assert {type(sample["learned_epoch"]) for sample in samples} == {float, type(None)}
    assert samples[3]["prediction"] is None
    assert not samples[3]["is_readable"]
    assert about["info"]["class_names"] == list(_CLASSES)


def test_fiftyone_shows_files(tracked, run, hardness):
    answer = hardness("export", "--run", tracked, "--to", "fiftyone")
    assert answer.status == 2
    assert "expected a run on an image folder for --to fiftyone; found digits; choose --to csv" in answer.err
    info = read_info(run)
    info["config"]["data"] = "imagefolder:elsewhere"
    files.write_json(run / "run.json", info)
    with pytest.raises(UserError, match=r"the images of .* found no .*elsewhere/train/cat/0.png"):
        export(Export(run=run, to="fiftyone"))
    assert not (run / "export-fiftyone").exists()


@pytest.mark.parametrize("to", ["csv", "cleanlab", "fiftyone"])
def test_an_older_export_is_written_anew_and_nothing_else(pictures, tmp_path, to):
    out = tmp_path / "out"
    config = Export(run=pictures, to=to, out=out)

    def content():
        return {path: path.read_bytes() for path in (out, *out.rglob("*")) if path.is_file()}

    export(config)
    before = content()
    export(config)
    assert content() == before
    for other in {"csv", "cleanlab", "fiftyone"} - {to}:
        with pytest.raises(UserError, match=rf"an older export to {other}; found something else at"):
            export(Export(run=pictures, to=other, out=out))
    assert content() == before
    shutil.rmtree(out) if out.is_dir() else out.unlink()
    out.mkdir()
    (out / "metadata.json").write_text('{"info": {}}')
    (out / "samples.json").write_text("{}")
    with pytest.raises(UserError, match="something else at"):
        export(config)
    assert len(content()) == 2


def test_a_run_that_is_not_whole_is_refused(run, hardness):
    assert "expected a finished run of track under runs/" in hardness("export").err
    answer = hardness("export", "--run", run, "--to", "excel")
    assert answer.status == 2
    assert "invalid choice 'excel'" in answer.err
    info = read_info(run)
    files.write_json(run / "run.json", info | {"status": "interrupted"})
    answer = hardness("export", "--run", run)
    assert answer.status == 2
    assert "found one that is interrupted; finish it with --resume" in answer.err
    files.write_json(run / "run.json", info)
    (run / "scores.parquet").unlink()
    answer = hardness("export", "--run", run)
    assert answer.status == 2
    assert "scores.parquet" in answer.err
    assert len(answer.err.splitlines()) == 1
    assert not (run / "export.csv").exists()
