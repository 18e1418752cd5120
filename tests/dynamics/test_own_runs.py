"""A folder that a Recorder wrote, described or not, is a run for every stage that needs no network."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from hardness import Recorder, files
from hardness.dynamics.own_runs import complete, completed_info, is_own
from hardness.errors import UserError
from hardness.page.gallery import gallery
from hardness.runs.reading import read_info, read_log
from hardness.settings.export import Export
from hardness.settings.labels import Labels
from hardness.settings.report import Report
from hardness.settings.retrain import Retrain
from hardness.settings.score import Score
from hardness.settings.show import Show
from hardness.settings.split import Split
from hardness.stages.export import export
from hardness.stages.labels import labels
from hardness.stages.report import report
from hardness.stages.retrain import retrain
from hardness.stages.score import score
from hardness.stages.show import show
from hardness.stages.split import split
from tests.conftest import refused

NUM = 60
LABELS = np.arange(NUM) % 3
KEYS = [f"doc/{number}" for number in range(NUM)]


def record(run, num_epochs=3, describe=None, labels=LABELS, **settings):
    """A classifier that learns half of the examples in epoch 1, and another sixth in each further epoch."""
    generator = torch.Generator().manual_seed(0)
    with Recorder(run, NUM, **settings) as recorder:
        if describe is not None:
            recorder.describe(**describe)
        for _ in range(num_epochs):
            noise = torch.randn(NUM, 3, generator=generator)
            strength = recorder.epoch * (torch.arange(NUM) % 7)
            logits = noise + torch.nn.functional.one_hot(torch.from_numpy(labels), 3) * strength[:, None]
            recorder.update(np.arange(NUM), logits, labels)
            recorder.end_epoch()
    return run


def test_without_a_description_keys_are_ids_and_classes_are_numbers(tmp_path):
    run = record(tmp_path / "mine")
    assert is_own(run)
    info = complete(run)
    assert info["data"] == {"num_train": NUM, "num_validation": 0, "class_names": ["0", "1", "2"]}
    assert (info["stage"], info["status"], info["config"]["epochs"]) == ("track", "finished", 3)
    examples = files.read_table(run / "examples.parquet").to_pandas()
    assert list(examples) == ["example_id", "key", "given_label", "is_readable"]
    assert list(examples["key"]) == [str(number) for number in range(NUM)]
    assert np.array_equal(examples["given_label"], LABELS)
    log = read_log(run)
    assert [line["epoch"] for line in log] == [1, 2, 3]
    assert log[0]["learned"] == log[0]["record_top1"]


def test_what_is_known_stays_what_is_not_stays_out(tmp_path):
    known = {
        "keys": KEYS,
        "class_names": ["a", "b", "c"],
        "clean_labels": (LABELS + (np.arange(NUM) < 6)) % 3,
    }
    run = record(tmp_path / "mine", describe=known)
    info = completed_info(run, "track")
    assert info["data"]["class_names"] == ["a", "b", "c"]
    assert info["noise_rate"] == pytest.approx(0.1)
    examples = files.read_table(run / "examples.parquet").to_pandas()
    assert list(examples["key"]) == KEYS
    assert list(np.flatnonzero(examples["is_corrupt"])) == [*range(6)]
    assert "noise_rate" not in complete(record(tmp_path / "other"))


def test_tables_follow_the_records_and_are_kept_until_then(tmp_path):
    run = record(tmp_path / "mine", describe={"keys": KEYS})
    first = complete(run)
    written = (run / "scores.parquet").stat().st_mtime_ns
    assert complete(run) == first
    assert (run / "scores.parquet").stat().st_mtime_ns == written
    record(run, num_epochs=2, resume=True)
    again = complete(run)
    assert again["config"]["epochs"] == 5
    assert files.table_settings(run / "scores.parquet")["last_epoch"] == 5
    assert list(files.read_table(run / "examples.parquet")["key"].to_pylist()) == KEYS


def test_every_stage_but_those_that_train_takes_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    texts = [f"<script>alert({number})</script>" for number in range(NUM)]
    run = record(tmp_path / "mine", describe={"keys": KEYS, "class_names": ["<a>", "b", "c"], "texts": texts})
    found = files.read_table(labels(Labels(run=run))).to_pandas()
    assert len(found) == NUM
    path = split(Split(run=(run,)))
    assert set(files.read_table(path)["key"].to_pylist()) <= set(KEYS)
    table = pd.read_csv(export(Export(run=run)))
    assert list(table["text"]) == texts
    assert not {"clean_label", "is_corrupt"} & set(table)
    show(Show(run=run))
    assert "60 examples, 3 classes" in capsys.readouterr().out
    page = (report(Report(runs=(run,), out=tmp_path / "report")) / "index.html").read_text()
    assert "&lt;script&gt;alert(" in page
    assert "<script>alert(" not in page
    assert json.loads((tmp_path / "report/summary.json").read_text())["runs"]
    with refused("no-network"):
        score(Score(run=(run,), with_=("grand",)))
    with refused("no-network", what="retrain"):
        retrain(Retrain(split=path))


@pytest.mark.parametrize("as_files", [False, True])
def test_a_gallery_of_images(tmp_path, as_files):
    pixels = np.random.default_rng(0).integers(0, 256, (NUM, 8, 8, 3), dtype=np.uint8)
    images = pixels
    if as_files:
        images = [tmp_path / f"{number}.png" for number in range(NUM)]
        for path, image in zip(images, pixels, strict=True):
            Image.fromarray(image).save(path)
    run = record(tmp_path / "mine", describe={"images": images})
    found = gallery({run: complete(run)})
    cards = [card for group in found.groups for card in group.cards]
    assert cards
    assert all(card.image and card.text is None for card in cards)
    assert not any("No images" in note for note in found.notes)


def test_a_row_of_a_table_is_one_value_per_line(tmp_path):
    rows = pd.DataFrame({"age": range(NUM), "name": ["<b>"] * NUM})
    run = record(tmp_path / "mine", describe={"rows": rows})
    card = gallery({run: complete(run)}).groups[0].cards[0]
    assert card.text == f"age: {card.example_id}\nname: <b>"


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({"keys": ["a"]}, "needs 60 values of key, not 1"),
        ({"keys": ["a"] * NUM}, "59 of them are repeated"),
        ({"texts": ["a"] * NUM, "rows": [{}] * NUM}, "texts and rows"),
        ({"images": np.zeros((NUM, 2, 2), np.float32)}, "float32"),
    ],
)
def test_a_wrong_description_is_refused(tmp_path, known, words):
    with Recorder(tmp_path / "mine", NUM) as recorder, pytest.raises(ValueError, match=words):
        recorder.describe(**known)


def test_too_few_class_names_and_no_records_are_refused(tmp_path):
    with refused("too-few-class-names", num_names=2, num_classes=3):
        complete(record(tmp_path / "mine", describe={"class_names": ["a", "b"]}))
    with refused("no-records"), Recorder(tmp_path / "none", NUM) as recorder:
        recorder.describe()
        complete(tmp_path / "none")


def test_an_incomplete_epoch_is_skipped(tmp_path, capsys):
    run = record(tmp_path / "mine", num_epochs=2)
    part = run / "dynamics/epoch=2/part-0.parquet"
    table, settings = files.read_table(part), files.table_settings(part)
    files.write_table(part, table, "", settings | {"num_parts": 2})
    assert complete(run)["config"]["epochs"] == 1
    assert "epoch 2" in capsys.readouterr().err


def test_a_tracked_run_stays_as_it_is(tmp_path):
    files.write_json(tmp_path / "run.json", {"format_version": "1"})
    with pytest.raises(UserError):
        read_info(tmp_path)
    with pytest.raises(UserError):
        is_own(tmp_path)
