"""Every mistake of the end-to-end story: one line that says what to do, status 2, and nothing lost."""

import json
import os
import re
import shutil

import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.conftest import assert_refused


def refuse(answer, *told):
    assert answer.status == 2, answer
    lines = answer.err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("hardness: expected ")
    for words in told:
        assert words in lines[0]


def snapshot(folder) -> dict:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def track(hardness, image_folder):
    """Track the image folder with settings that are right."""

    def run(*words, data=None):
        data = data or f"imagefolder:{image_folder}"
        return hardness(
            *(
                "track",
                "--data",
                data,
                "--model",
                "small_cnn",
                "--epochs",
                1,
                "--batch-size",
                6,
                "--workers",
                0,
            ),
            *words,
        )

    return run


def test_the_settings_are_right(track):
    assert track().status == 0


def test_a_path_that_is_not_there(track, here):
    refuse(track(data="imagefolder:nowhere"), "a folder nowhere", "check the path")
    assert not (here / "runs").exists()


@pytest.mark.parametrize("part", ["train", "val"])
def test_a_folder_without_train_or_val(track, image_folder, part):
    shutil.rmtree(image_folder / part)
    refuse(track(), f"images/{part}", "put")


def test_a_class_in_val_that_train_lacks(track, image_folder):
    (image_folder / "val/eel").rename(image_folder / "val/fox")
    refuse(track(), "fox", "add training images")


def test_an_empty_class(track, image_folder):
    for path in (image_folder / "train/eel").iterdir():
        path.unlink()
    refuse(track(), "train/eel", "add images or remove the folder")


@pytest.mark.parametrize("cache", ["host", "none"])
@pytest.mark.parametrize("kind", ["truncated", "text"])
def test_an_image_that_cannot_be_read(track, image_folder, kind, cache, here):
    bad = image_folder / "train/dog/5.jpg"
    Image.effect_noise((40, 40), 90).save(bad)
    bad.write_bytes(bad.read_bytes()[:400] if kind == "truncated" else b"these are words")
    refuse(track("--size", 12, "--cache", cache), "train/dog/5.jpg", "--on-bad-image null")
    assert not list(here.rglob("dynamics/*"))
    left_out = track("--size", 12, "--cache", cache, "--on-bad-image", "null", "--out", "left-out")
    assert left_out.status == 0
    assert "unreadable images left out: 1" in left_out.out
    records = pd.read_parquet(here / "left-out/dynamics")
    assert (len(records), records["loss"].isna().sum()) == (25, 1)


def test_a_data_set_of_one_class(track, image_folder):
    for part in ("train", "val"):
        for name in ("dog", "eel"):
            shutil.rmtree(image_folder / part / name)
    refuse(track(), "two classes or more", "'cat'")


@pytest.mark.parametrize("quantile", ["0", "-0.1", "0.51", "nan", "inf"])
def test_a_quantile_outside_its_range(hardness, quantile):
    refuse(hardness("split", f"--quantile={quantile}"), "0 < --quantile <= 0.5", f"found {float(quantile)}")


def test_a_run_that_is_not_finished(hardness, tracked, here):
    run = shutil.copytree(tracked, here / "run")
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(info | {"status": "interrupted"}))
    before = snapshot(here)
    for words in (("split", "--run", "run"), ("report", "--runs", "run")):
        assert_refused(hardness(*words), "run-not-finished", "run", "interrupted", "--resume")
    assert snapshot(here) == before


def test_a_run_of_another_format_version(hardness, tracked, here):
    run = shutil.copytree(tracked, here / "run")
    table = pq.read_table(run / "scores.parquet")
    pq.write_table(
        table.replace_schema_metadata({**table.schema.metadata, b"hardness.format": b"9"}),
        run / "scores.parquet",
    )
    refuse(hardness("split", "--run", "run"), "format version 1", "found format version 9")


def test_a_folder_that_is_no_run(hardness, here):
    (here / "empty").mkdir()
    assert_refused(hardness("split", "--run", "empty"), "not-a-run", "empty", "run.json")
    assert_refused(hardness("split", "--run", "nowhere"), "not-a-run", "nowhere")
    refuse(hardness("retrain", "--split", "nowhere.parquet"), "a file nowhere.parquet")
    assert_refused(hardness("retrain"), "no-split", "hardness split")


def test_an_output_folder_that_holds_another_run(hardness, tracked, here):
    shutil.copytree(tracked, here / "run")
    before = snapshot(here)
    assert_refused(hardness("track", "--out", "run", "--seed", 5), "other-settings", "run", "--out")
    assert_refused(hardness("memorize", "--out", "run"), "other-stage", "run", "track", "memorize")
    assert snapshot(here) == before


@pytest.mark.parametrize("noise", ["-0.1", "1.1", "nan"])
def test_noise_outside_0_to_1(hardness, noise):
    refuse(hardness("track", f"--noise={noise}"), "--noise within 0..1")
    refuse(hardness("memorize", "--noise", "0.5", noise), "--noise within 0..1")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: t.assign(example_id=t["example_id"] + 1), "24 in row 23"),
        (lambda t: t.iloc[1:], "1 ids missing, the first 0"),
        (lambda t: pd.concat([t, t.iloc[[4]]]), "id 4 2 times"),
        (lambda t: t.assign(label=3), "3 in row 0"),
        (lambda t: t.rename(columns={"label": "y"}), "a column label"),
    ],
)
def test_given_labels_that_do_not_fit(track, here, change, told):
    table = pd.DataFrame({"example_id": range(24), "label": 0})
    table.to_parquet("labels.parquet")
    assert track("--given-labels", "labels.parquet").status == 0
    change(table).to_parquet("labels.parquet")
    refuse(track("--given-labels", "labels.parquet", "--out", "r"), "labels.parquet", told)
    assert not (here / "r").exists()
    refuse(track("--given-labels", "nowhere.csv"), "no file nowhere.csv")


def test_a_folder_that_cannot_be_written(hardness, here):
    (here / "file").touch()
    refuse(hardness("track", "--out", "file/run"), "file/run", "check path, rights and space")
    if os.geteuid() != 0:
        (here / "locked").mkdir(mode=0o500)
        refuse(hardness("track", "--out", "locked/run"), "Permission denied")


@pytest.mark.parametrize("optimizer", ["m3", "rm3", "ra3"])
def test_momentum_with_a_median_optimizer(hardness, optimizer):
    refuse(
        hardness("track", "--optimizer", optimizer, "--momentum", 0.9),
        f"momentum 0 with {optimizer}",
        "--allow-momentum",
    )
    allowed = hardness(
        *(
            "track",
            "--optimizer",
            optimizer,
            "--momentum",
            0.5,
            "--allow-momentum",
            "--epochs",
            1,
            "--out",
            "r",
        )
    )
    assert allowed.status == 0


def test_a_loss_that_is_no_number(hardness, here):
    answer = hardness("track", "--lr", "1e20", "--out", "r")
    refuse(answer, "a finite loss", "in epoch 1, step 2", "lower --lr")
    assert json.loads((here / "r/run.json").read_text())["status"] == "failed"
    assert not list(here.rglob("part-*.parquet"))


def test_values_of_the_wrong_kind(hardness):
    for words in (["track", "--epochs", "many"], ["track", "--record", "sometimes"], ["trak"], []):
        answer = hardness(*words)
        assert answer.status == 2
        assert "Traceback" not in answer.err


def test_weights_that_the_last_step_of_all_ruined(hardness, here):
    answer = hardness("track", "--lr", "1e30", "--epochs", 1, "--batch-size", 2000, "--out", "r")
    refuse(answer, "weights that are not", "in epoch 1, step 1")
    assert not list(here.rglob("part-*.parquet"))


def test_going_on_with_other_data(track, hardness, image_folder, here):
    assert track("--out", "r").status == 0
    info = json.loads((here / "r/run.json").read_text())
    (here / "r/run.json").write_text(json.dumps(info | {"status": "interrupted"}))
    for part in ("train", "val"):
        shutil.copytree(image_folder / part / "cat", image_folder / part / "ant")
    before = snapshot(here / "r/dynamics")
    assert_refused(track("--out", "r", "--resume"), "resumed-differently", info["fingerprint"])
    assert json.loads((here / "r/run.json").read_text())["fingerprint"] == info["fingerprint"]
    assert snapshot(here / "r/dynamics") == before


@pytest.mark.parametrize("words", [["--batch-size", 1], ["--batch-size", 5, "--optimizer", "m3"]])
def test_batches_too_small_for_batch_normalisation(hardness, words):
    refuse(hardness("track", "--model", "resnet18", *words), "batch normalisation", "raise --batch-size")


def test_a_folder_with_signs_in_its_name(track, hardness, image_folder):
    image_folder.rename(image_folder.parent / "cost_$5_to_$10 :cat: [red]")
    assert track(data=f"imagefolder:{image_folder.parent}/cost_$5_to_$10 :cat: [red]").status == 0
    assert hardness("report").status == 0


def interrupt(run) -> None:
    """Make a finished run one that was interrupted."""
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(info | {"status": "interrupted"}))


def test_going_on_where_records_are_missing(track, here):
    assert track("--out", "r").status == 0
    interrupt(here / "r")
    shutil.rmtree(here / "r/dynamics/epoch=1")
    refuse(track("--out", "r", "--resume"), "records of epochs 1..1", "none of epoch 1")


def test_going_on_with_other_given_labels(track, here):
    table = pd.DataFrame({"example_id": range(24), "label": 0})
    table.to_csv("labels.csv", index=False)
    assert track("--given-labels", "labels.csv", "--out", "r").status == 0
    interrupt(here / "r")
    table.assign(label=1).to_csv("labels.csv", index=False)
    answer = track("--given-labels", "labels.csv", "--out", "r", "--resume")
    assert_refused(answer, "resumed-differently", "labels fingerprint")


def test_going_on_from_damaged_files(track, here):
    assert track("--out", "r").status == 0
    interrupt(here / "r")
    log, checkpoint = here / "r/log.jsonl", here / "r/checkpoints/last.pt"
    whole = log.read_text()
    log.write_text("garbage\n" + whole)
    assert_refused(track("--out", "r", "--resume"), "invalid-log", "r/log.jsonl")
    log.write_text(whole)
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    refuse(track("--out", "r", "--resume"), "a whole checkpoint", "last.pt")


@pytest.mark.parametrize(
    "key", ["status", "stage", "config", "times", "seed", "data", "record_mode", "fingerprint"]
)
def test_a_run_json_that_lacks_something(hardness, tracked, here, key):
    run = shutil.copytree(tracked, here / "run")
    info = json.loads((run / "run.json").read_text())
    del info[key]
    (run / "run.json").write_text(json.dumps(info))
    refuse(hardness("split", "--run", "run"), key, "run.json")
    refuse(hardness("report", "--runs", "run"), key, "run.json")


def test_a_parquet_file_with_a_damaged_page(hardness, tracked, here):
    run = shutil.copytree(tracked, here / "run")
    scores = bytearray((run / "scores.parquet").read_bytes())
    scores[200:5000] = bytes(4800)
    (run / "scores.parquet").write_bytes(scores)
    refuse(hardness("split", "--run", "run"), "a whole Parquet file", "scores.parquet")


def test_names_that_are_not_utf8(track, image_folder):
    (image_folder / "train/cat/0.png").rename(image_folder / "train/cat" / os.fsdecode(b"caf\xe9.png"))
    refuse(track(), "in UTF-8", "caf", "rename it")


def test_a_report_over_files_of_the_users_own(hardness, tracked, here):
    (here / "mine/figures").mkdir(parents=True)
    (here / "mine/figures/mine.txt").touch()
    (here / "mine/summary.json").write_text('{"mine": 1}')
    before = snapshot(here / "mine")
    refuse(hardness("report", "--runs", tracked, "--out", "mine"), "something else in it")
    assert snapshot(here / "mine") == before


def test_a_file_that_is_no_split(hardness, tracked):
    path = tracked / "examples.parquet"
    assert_refused(hardness("retrain", "--split", path), "not-a-split", path)


def test_a_mistyped_stage(hardness):
    refuse(hardness("trak"), "a stage among demo, run, pack, track", "did you mean track")


def test_synchronised_batch_normalisation_is_for_cuda(track):
    answer = track("--sync-batchnorm", "--device", "cpu", "--out", "r")
    assert_refused(answer, "sync-batchnorm-on-cpu", "--sync-batchnorm", "cpu")


def test_a_folder_to_show_that_is_no_run(hardness, here):
    assert_refused(hardness("show"), "no-runs", "runs/", "hardness track")
    assert_refused(hardness("show", "nowhere"), "not-a-run", "nowhere")
    (here / "pictures").mkdir()
    assert_refused(hardness("show", "pictures"), "not-a-run", "pictures", "run.json")
    (here / "pictures/run.json").write_text("[]")
    refuse(hardness("show", "pictures"), "format version 1 in pictures/run.json")
    foreign = {"config": {}, "status": "finished", "times": {}, "versions": {}, "git_commit": None}
    (here / "pictures/run.json").write_text(json.dumps({"format_version": "1", "stage": "bake", **foreign}))
    assert_refused(hardness("show", "pictures"), "other-stage", "pictures", "bake", "track")


def test_what_is_broken_in_a_run_to_show_is_a_line(hardness, tracked, here):
    run = shutil.copytree(tracked, here / "run")
    (run / "splits").mkdir()
    (run / "splits/mine.parquet").write_bytes(b"no table")
    for name in ("scores.parquet", "log.jsonl"):
        os.truncate(run / name, 2000)
    (run / "log.jsonl").write_text("{\n" + (run / "log.jsonl").read_text())
    info = json.loads((run / "run.json").read_text())
    del info["data"]["image_shape"]
    (run / "run.json").write_text(json.dumps(info))
    before = snapshot(here)
    answer = hardness("show", "run")
    assert (answer.status, answer.err) == (0, "")
    for told in (
        r"^log.jsonl: .*run/log.jsonl.* \[invalid-log\]$",
        r"^run.json: .*\(KeyError: 'image_shape'\)$",
        r"^run/splits/mine.parquet: expected a whole Parquet file",
        r"^scores.parquet: expected a whole Parquet file at run/scores.parquet",
        r"^files .*dynamics/ \(6 files",
    ):
        assert len(re.findall(told, answer.out, re.MULTILINE)) == 1, told
    assert snapshot(here) == before
