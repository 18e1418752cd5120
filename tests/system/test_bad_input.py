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
    assert_refused(track(data="imagefolder:nowhere"), "no-such-folder", "nowhere")
    assert not (here / "runs").exists()


@pytest.mark.parametrize("part", ["train", "val"])
def test_a_folder_without_train_or_val(track, image_folder, part):
    shutil.rmtree(image_folder / part)
    assert_refused(track(), f"no-{part}-folder", f"images/{part}")


def test_a_class_in_val_that_train_lacks(track, image_folder):
    (image_folder / "val/eel").rename(image_folder / "val/fox")
    assert_refused(track(), "class-only-in-validation", "fox")


def test_an_empty_class(track, image_folder):
    for path in (image_folder / "train/eel").iterdir():
        path.unlink()
    assert_refused(track(), "no-images", "train/eel")


@pytest.mark.parametrize("cache", ["host", "none"])
@pytest.mark.parametrize("kind", ["truncated", "text"])
def test_an_image_that_cannot_be_read(track, image_folder, kind, cache, here):
    bad = image_folder / "train/dog/5.jpg"
    Image.effect_noise((40, 40), 90).save(bad)
    bad.write_bytes(bad.read_bytes()[:400] if kind == "truncated" else b"these are words")
    answer = track("--size", 12, "--cache", cache)
    assert_refused(answer, "unreadable-image", "train/dog/5.jpg", "--on-bad-image null")
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
    assert_refused(track(), "single-class", "cat")


@pytest.mark.parametrize("quantile", ["0", "-0.1", "0.51", "nan", "inf"])
def test_a_quantile_outside_its_range(hardness, quantile):
    assert_refused(hardness("split", f"--quantile={quantile}"), "out-of-range", "--quantile", float(quantile))


def test_a_run_that_is_not_finished(hardness, tracked, here):
    run = shutil.copytree(tracked, here / "run")
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(info | {"status": "interrupted"}))
    before = snapshot(here)
    assert_refused(hardness("split", "--run", "run"), "run-not-finished", "interrupted", "--resume")
    assert_refused(hardness("report", "--runs", "run"), "run-not-finished", "interrupted")
    assert snapshot(here) == before


def test_a_run_of_another_format_version(hardness, tracked, here):
    run = shutil.copytree(tracked, here / "run")
    table = pq.read_table(run / "scores.parquet")
    pq.write_table(
        table.replace_schema_metadata({**table.schema.metadata, b"hardness.format": b"9"}),
        run / "scores.parquet",
    )
    assert_refused(hardness("split", "--run", "run"), "other-format-version", "run/scores.parquet", 1, 9)


def test_a_folder_that_is_no_run(hardness, here):
    (here / "empty").mkdir()
    assert_refused(hardness("split", "--run", "empty"), "not-a-run", "empty")
    assert_refused(hardness("split", "--run", "nowhere"), "not-a-run", "nowhere")
    assert_refused(hardness("retrain", "--split", "nowhere.parquet"), "no-such-file", "nowhere.parquet")
    assert_refused(hardness("retrain"), "no-split", "hardness split")


def test_an_output_folder_that_holds_another_run(hardness, tracked, here):
    shutil.copytree(tracked, here / "run")
    before = snapshot(here)
    assert_refused(hardness("track", "--out", "run", "--seed", 5), "other-settings", "--epochs 6, not 20")
    assert_refused(hardness("memorize", "--out", "run"), "other-stage", "run", "track", "memorize")
    assert snapshot(here) == before


@pytest.mark.parametrize("noise", ["-0.1", "1.1", "nan"])
def test_noise_outside_0_to_1(hardness, noise):
    assert_refused(hardness("track", f"--noise={noise}"), "out-of-range", "--noise", noise)
    assert_refused(hardness("memorize", "--noise", "0.5", noise), "out-of-range", "--noise", noise)


@pytest.mark.parametrize(
    ("change", "code", "values"),
    [
        (lambda t: t.assign(example_id=t["example_id"] + 1), "value-out-of-range", (24, "row 23")),
        (lambda t: t.iloc[1:], "wrong-example-ids", ("id 0",)),
        (lambda t: pd.concat([t, t.iloc[[4]]]), "wrong-example-ids", ("2 rows", "id 4")),
        (lambda t: t.assign(label=3), "value-out-of-range", (3, "row 0")),
        (lambda t: t.rename(columns={"label": "y"}), "no-such-column", ("label",)),
    ],
)
def test_given_labels_that_do_not_fit(track, here, change, code, values):
    table = pd.DataFrame({"example_id": range(24), "label": 0})
    table.to_parquet("labels.parquet")
    assert track("--given-labels", "labels.parquet").status == 0
    change(table).to_parquet("labels.parquet")
    answer = track("--given-labels", "labels.parquet", "--out", "r")
    assert_refused(answer, code, "labels.parquet", *values)
    assert not (here / "r").exists()
    assert_refused(track("--given-labels", "nowhere.csv"), "no-labels-file", "nowhere.csv")


def test_a_folder_that_cannot_be_written(hardness, here):
    (here / "file").touch()
    assert_refused(hardness("track", "--out", "file/run"), "file-access", "file/run")
    if os.geteuid() != 0:
        (here / "locked").mkdir(mode=0o500)
        assert_refused(hardness("track", "--out", "locked/run"), "file-access", "Permission denied")


@pytest.mark.parametrize("optimizer", ["m3", "rm3", "ra3"])
def test_momentum_with_a_median_optimizer(hardness, optimizer):
    assert_refused(
        hardness("track", "--optimizer", optimizer, "--momentum", 0.9),
        "unstable-momentum",
        optimizer,
        0.9,
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
    assert_refused(answer, "training-diverged", "epoch 1, step 2", "--lr")
    assert json.loads((here / "r/run.json").read_text())["status"] == "failed"
    assert not list(here.rglob("part-*.parquet"))


def test_values_of_the_wrong_kind(hardness):
    for words in (["track", "--epochs", "many"], ["track", "--record", "sometimes"], ["trak"], []):
        answer = hardness(*words)
        assert answer.status == 2
        assert "Traceback" not in answer.err


def test_weights_that_the_last_step_of_all_ruined(hardness, here):
    answer = hardness("track", "--lr", "1e30", "--epochs", 1, "--batch-size", 2000, "--out", "r")
    assert_refused(answer, "training-diverged", "weight", "epoch 1, step 1")
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
    assert_refused(
        hardness("track", "--model", "resnet18", *words),
        "batch-too-small",
        "batch normalization",
        "--batch-size",
    )


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
    assert_refused(track("--out", "r", "--resume"), "cannot-resume", "epoch 1")


def test_going_on_with_other_given_labels(track, here):
    table = pd.DataFrame({"example_id": range(24), "label": 0})
    table.to_csv("labels.csv", index=False)
    assert track("--given-labels", "labels.csv", "--out", "r").status == 0
    interrupt(here / "r")
    table.assign(label=1).to_csv("labels.csv", index=False)
    assert_refused(
        track("--given-labels", "labels.csv", "--out", "r", "--resume"), "resumed-differently", "labels"
    )


def test_going_on_from_damaged_files(track, here):
    assert track("--out", "r").status == 0
    interrupt(here / "r")
    log, checkpoint = here / "r/log.jsonl", here / "r/checkpoints/last.pt"
    whole = log.read_text()
    log.write_text("garbage\n" + whole)
    assert_refused(track("--out", "r", "--resume"), "invalid-log", "log.jsonl")
    log.write_text(whole)
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    assert_refused(track("--out", "r", "--resume"), "bad-checkpoint", "last.pt")


@pytest.mark.parametrize(
    "key", ["status", "stage", "config", "times", "seed", "data", "record_mode", "fingerprint"]
)
def test_a_run_json_that_lacks_something(hardness, tracked, here, key):
    run = shutil.copytree(tracked, here / "run")
    info = json.loads((run / "run.json").read_text())
    del info[key]
    (run / "run.json").write_text(json.dumps(info))
    assert_refused(hardness("split", "--run", "run"), "missing-json-keys", key, "run.json")
    assert_refused(hardness("report", "--runs", "run"), "missing-json-keys", key, "run.json")


def test_a_parquet_file_with_a_damaged_page(hardness, tracked, here):
    run = shutil.copytree(tracked, here / "run")
    scores = bytearray((run / "scores.parquet").read_bytes())
    scores[200:5000] = bytes(4800)
    (run / "scores.parquet").write_bytes(scores)
    assert_refused(hardness("split", "--run", "run"), "damaged-parquet", "run/scores.parquet")


def test_names_that_are_not_utf8(track, image_folder):
    (image_folder / "train/cat/0.png").rename(image_folder / "train/cat" / os.fsdecode(b"caf\xe9.png"))
    assert_refused(track(), "name-not-utf8", "caf")


def test_a_report_over_files_of_the_users_own(hardness, tracked, here):
    (here / "mine/figures").mkdir(parents=True)
    (here / "mine/figures/mine.txt").touch()
    (here / "mine/summary.json").write_text('{"mine": 1}')
    before = snapshot(here / "mine")
    assert_refused(hardness("report", "--runs", tracked, "--out", "mine"), "path-occupied", "mine")
    assert snapshot(here / "mine") == before


def test_a_file_that_is_no_split(hardness, tracked):
    assert_refused(
        hardness("retrain", "--split", tracked / "examples.parquet"), "not-a-split", "examples.parquet"
    )


def test_a_mistyped_stage(hardness):
    assert_refused(hardness("trak"), "unknown-name", "trak", "Did you mean track")


def test_synchronised_batch_normalisation_is_for_cuda(track):
    answer = track("--sync-batchnorm", "--device", "cpu", "--out", "r")
    assert_refused(answer, "sync-batchnorm-on-cpu", "cpu")


def test_a_folder_to_show_that_is_no_run(hardness, here):
    assert_refused(hardness("show"), "no-runs", "hardness track")
    assert_refused(hardness("show", "nowhere"), "not-a-run", "nowhere")
    (here / "pictures").mkdir()
    assert_refused(hardness("show", "pictures"), "not-a-run", "pictures")
    (here / "pictures/run.json").write_text("[]")
    assert_refused(hardness("show", "pictures"), "other-format-version", "pictures/run.json")
    foreign = {"config": {}, "status": "finished", "times": {}, "versions": {}, "git_commit": None}
    (here / "pictures/run.json").write_text(json.dumps({"format_version": "1", "stage": "bake", **foreign}))
    assert_refused(hardness("show", "pictures"), "other-stage", "bake")


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
        r"^log.jsonl: run/log.jsonl .* \[invalid-log\]$",
        r"^run.json: .*KeyError: 'image_shape'.*$",
        r"^run/splits/mine.parquet: .* \[damaged-parquet\]$",
        r"^scores.parquet: .*run/scores.parquet.* \[damaged-parquet\]$",
        r"^files .*dynamics/ \(6 files",
    ):
        assert len(re.findall(told, answer.out, re.MULTILINE)) == 1, told
    assert snapshot(here) == before
