"""Which examples the gallery shows, and what their cards say."""

import base64
import io
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image

from hardness import files, page
from hardness.datasets import decoding
from hardness.dynamics import store
from hardness.page.gallery import LISTS, gallery, select
from hardness.runs.reading import finished_info
from tests.conftest import write_image
from tests.made_runs import tracked_run

NAN = float("nan")
SCRIPT = "<script>alert(1)</script>"


def table(first_learned, mean_loss, forgetting, aum):
    return pd.DataFrame(
        {
            "example_id": range(len(aum)),
            "mean_loss": mean_loss,
            "first_learned_epoch": first_learned,
            "forgetting_events": forgetting,
            "aum": aum,
        }
    )


def shown(chosen):
    """[(id, label, its lists), ...] in the order of the page."""
    return [
        (row.example_id, row.label, *(LISTS[i] for i in range(4) if row[i + 3]))
        for row in chosen.itertuples()
    ]


def test_each_list_by_hand():
    one = table(
        first_learned=[1, 1, 3, NAN, 2, 2, 5, NAN],
        mean_loss=[0.1, 0.2, 0.5, 2.0, 0.3, 0.4, 1.0, NAN],  # 7: unreadable
        forgetting=[0, 2, 1, NAN, 0, 0, 0, NAN],
        aum=[5.0, 1.0, 2.0, -3.0, 4.0, -1.0, 3.0, NAN],
    )
    # Mean ranks: (1.5 + 1.5 + 5 + 7) / 4 of class 0, (3.5 + 3.5 + 6) / 3 of class 1. None of it is forgotten.
    assert shown(select([one], np.array([0, 0, 0, 0, 1, 1, 1, 1]), num_cards=8)) == [
        (3, 0, "hardest", "likely mislabeled"),
        (1, 0, "most forgotten"),
        (0, 0, "easiest"),
        (6, 1, "hardest"),
        (5, 1, "likely mislabeled"),
        (4, 1, "easiest"),
    ]


def test_ranks_of_several_runs_are_averaged():
    loss = [0.3, 0.2, 0.1]
    tables = [
        table([1, 2, NAN], loss, [0, 2, NAN], [-99.0, -98.0, -70.0]),
        table([3, 2, 1], loss, [3, 1, 3], [-97.0, -98.0, -99.0]),
    ]
    # All mean ranks and mean forgetting events are equal: mean loss decides, and the id of suspects.
    assert shown(select(tables, np.zeros(3, int), num_cards=4)) == [
        (0, 0, "hardest", "most forgotten", "likely mislabeled"),
        (2, 0, "easiest"),
    ]
    # A label whose mean margin is positive is not a suspect, however low it is compared with others.
    tables = [each.assign(aum=each["aum"] + 200) for each in tables]
    assert shown(select(tables, np.zeros(3, int), num_cards=4))[0] == (0, 0, "hardest", "most forgotten")


def test_a_list_of_a_class_has_six_at_most():
    numbers = np.arange(60.0)
    one = table(numbers, numbers, numbers % 3, -numbers)
    chosen = select([one], np.arange(60) % 3)
    sizes = chosen.groupby("label")[list(LISTS)].sum()
    assert (sizes[["easiest", "hardest", "likely mislabeled"]] == 6).all(axis=None)
    assert sizes["most forgotten"].tolist() == [0, 6, 6]
    assert chosen["example_id"].is_unique
    assert set(chosen.loc[chosen["easiest"], "example_id"]) == set(range(18))


def test_of_many_classes_some_are_shown_from_the_easiest_to_the_hardest():
    generator = np.random.default_rng(0)
    order = generator.permutation(12)  # order[label]: how hard it is
    given = np.repeat(np.arange(12), 5)
    epochs = order[given] * 10.0 + np.tile(np.arange(5), 12)
    one = table(epochs, epochs, np.ones(60), -epochs)
    chosen = select([one], given, num_cards=16)
    assert order[chosen["label"].drop_duplicates()].tolist() == [0, 4, 7, 11]
    assert chosen.groupby("label")[list(LISTS)].sum().to_numpy().tolist() == [[1, 1, 1, 1]] * 4


LOSSES = np.float32([[2, 1, 4, 1], [1, 0.5, 4, 0.25], [0.5, 0.25, 2, 0]])


@pytest.fixture
def by_hand(tmp_path):
    """Two runs of four examples, all of them in one class of ten but the last: their run.json."""
    runs = {}
    given = np.int32([0, 0, 0, 2])
    aum = [4.0, -1.0, -1.5, 3.0], [4.5, 5.0, -0.5, 2.0]
    for number, last in enumerate(([0, 9, 4, 2], [0, 0, 3, 2])):
        run = tmp_path / f"run-{number}"
        examples = {"example_id": range(4), "key": ["a", "b", SCRIPT, "d"], "given_label": given}
        files.write_table(
            run / "examples.parquet", pd.DataFrame({**examples, "clean_label": [0, 0, 1, 2]}), "f"
        )
        never = NAN if number else 3
        scores = table([1, 2, NAN, never], [1.5, 0.5, 3, 0.4], [0, 1, NAN, 0], aum[number])
        files.write_table(run / "scores.parquet", scores, "f")
        for epoch, losses in enumerate(LOSSES + number, start=1):
            columns = [np.arange(4), given, np.int32(last), losses, -losses, np.minimum(losses, 1)]
            store.write_part(run, epoch, pa.table(columns, schema=store.SCHEMA), "f")
        runs[run] = {
            "fingerprint": "f",
            "labels_fingerprint": "same",
            "data": {"class_names": ["cat", SCRIPT, *map(str, range(2, 10))]},
        }
    return runs


def test_cards_by_hand(by_hand):
    found = gallery(by_hand, images=False)
    assert [(group.label, group.name) for group in found.groups] == [(0, "cat"), (2, "2")]
    (never, second, first), (other,) = (group.cards for group in found.groups)
    assert [card.example_id for card in (never, second, first, other)] == [2, 1, 0, 3]
    assert (never.given, never.clean, second.clean) == ("cat", SCRIPT, None)
    # 4 and 3: a tie, to the smaller index; so of 9 and 0.
    assert [card.prediction for card in (first, second, never, other)] == ["cat", "cat", "3", "2"]
    assert [card.learned for card in (first, second, never, other)] == ["1", "2", "never", "3 in 1 of 2 runs"]
    assert [score.name for score in found.scores] == [
        *("mean_loss", "first_learned_epoch", "forgetting_events", "aum")
    ]
    assert never.values == ("3", "never learned", "never learned", "-1")
    # Order of mean loss: 3, 1, 0, 2; of first-learned epoch 0, 1, 3, 2; of aum, smaller ones being harder,
    # 0, 3, 1, 2, while mean ranks would be 0, 1, 3, 2.
    assert [card.places[0] for card in (first, second, never, other)] == [2, 1, 3, 0]
    assert [card.places[1] for card in (first, second, never, other)] == [0, 1, 3, 2]
    assert [card.places[3] for card in (first, second, never, other)] == [0, 2, 3, 1]
    assert (first.curve.first, first.curve.last, found.num_epochs) == (2.5, 1.0, 3)
    # Of 58 units from 1 on, a third is above the loss of guessing: 59 - 58 L / (L + ln 10 / 2).
    heights = [round(59 - 58 * loss / (loss + np.log(10) / 2)) for loss in (2.5, 1.5, 1.0)]
    assert first.curve.points == (
        f"-9,69 -9,{heights[0]} 0,{heights[0]} 120,{heights[1]} 240,{heights[2]} 249,{heights[2]} 249,69"
    )
    assert found.numbers["runs ranked"] == 2
    assert found.numbers["loss of guessing"] == pytest.approx(np.log(10))
    assert "2 runs" in found.notes[0]
    assert "ln 10 = 2.30" in found.notes[1]
    assert "--no-images" in found.notes[2]


def test_the_note_says_how_many_of_many_classes_are_shown(tmp_path):
    ids = np.arange(1010)
    examples = {"example_id": ids, "key": ids.astype(str), "given_label": ids // 2, "clean_label": ids // 2}
    files.write_table(tmp_path / "examples.parquet", pd.DataFrame(examples), "f")
    files.write_table(tmp_path / "scores.parquet", table(ids + 1, ids, ids * 0 + 1, -ids), "f")
    info = {"fingerprint": "f", "data": {"class_names": ids.astype(str).tolist()}}
    found = gallery({tmp_path: info}, images=False)
    assert [found.numbers[name] for name in ("of each list", "classes shown", "classes")] == [1, 100, 505]
    assert "the easiest and the hardest examples" in found.notes[0]
    assert "100 of 505 classes" in found.notes[0]
    assert (len(found.groups), found.groups[0].label, found.groups[-1].label) == (100, 0, 504)
    assert found.numbers["cards"] == 200


def test_runs_under_other_given_labels_are_left_out(by_hand):
    one, other = by_hand
    expected = gallery({one: by_hand[one]}, images=False)
    by_hand[other]["labels_fingerprint"] = "another"
    found = gallery(by_hand, images=False)
    assert found.groups == expected.groups
    assert [found.numbers[name] for name in ("runs ranked", "runs")] == [1, 2]
    assert "1 of 2 runs" in found.notes[0]


def test_cards_are_sorted_by_what_every_run_has_of_each(by_hand):
    for number, run in enumerate(by_hand):
        scores = pd.read_parquet(run / "scores.parquet").assign(
            el2n=0.5, grand=[1, 2, 3, NAN], confidence=0.1
        )
        files.write_table(run / "scores.parquet", scores.drop(columns="confidence" if number else []), "f")
    names = [score.name for score in gallery(by_hand, images=False).scores]
    assert names == ["mean_loss", "first_learned_epoch", "forgetting_events", "aum", "el2n"]


def test_without_records_there_are_no_curves_and_no_predictions(by_hand, gallery_page):
    one, other = by_hand
    shutil.rmtree(one / "dynamics")
    assert gallery(by_hand, images=False).groups[0].cards[1].prediction == "cat"
    shutil.rmtree(other / "dynamics")
    found = gallery(by_hand, images=False)
    assert {(card.curve, card.prediction) for group in found.groups for card in group.cards} == {(None, None)}
    assert found.numbers["epochs"] == 0
    page = read(gallery_page(found))
    assert not page.tagged("svg")
    assert "predicted" not in page.texts


@pytest.mark.parametrize("num_epochs", [1, 70])
def test_a_curve_of_any_length(by_hand, num_epochs):
    for run in by_hand:
        part = store.read_epoch(run, 1)
        shutil.rmtree(run / "dynamics")
        columns = [np.arange(4), part.given_label, part.prediction, part.loss, part.margin, part.el2n]
        for epoch in range(1, num_epochs + 1):
            store.write_part(run, epoch, pa.table(columns, schema=store.SCHEMA), "f")
    points = gallery(by_hand, images=False).groups[0].cards[0].curve.points.split()
    assert len(points) == 4 + min(num_epochs, 60)
    assert points[-2].startswith("249,")
    assert points[-3].startswith("240," if num_epochs > 1 else "0,")


class Page(HTMLParser):
    """The elements of a page, and its texts."""

    def __init__(self):
        super().__init__()
        self.elements, self.texts = [], []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data.strip())

    def tagged(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


def read(html):
    page = Page()
    page.feed(html)
    return page


def test_names_are_escaped(by_hand, gallery_page):
    for info in by_hand.values():
        info["data"]["class_names"][0] = f'"{SCRIPT}'
    html = gallery_page(gallery(by_hand, images=False))
    page = read(html)
    assert len(page.tagged("script")) == 1
    assert SCRIPT not in html
    assert {f'"{SCRIPT}', SCRIPT} <= set(page.texts)
    assert SCRIPT in [attrs["title"] for attrs in page.tagged("h5")]
    assert {attrs["data-label"] for attrs in page.tagged("li")} == {"0", "2"}


def test_two_galleries_on_a_page_share_no_id(by_hand, gallery_page):
    found = gallery(by_hand, images=False)
    page = read(gallery_page(found, found))
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(set(ids)) == len(ids) == 2 * 5
    assert {attrs["for"] for attrs in page.tagged("label")} == {
        attrs["id"] for attrs in page.tagged("select")
    }


@pytest.mark.parametrize("name", ["gallery.css", "gallery.js", "gallery.html"])
def test_the_page_loads_nothing(name):
    text = (Path(page.__file__).parent / name).read_text()
    assert not re.search(r"http|url\(|@import|\bimport\b|fetch", text)


def opened(uri):
    kind, _, data = uri.removeprefix("data:image/").partition(";base64,")
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert image.format.lower() == kind
    return image


def test_a_tracked_run(made_run, gallery_page):
    info = finished_info(made_run)
    found = gallery({made_run: info})
    scores = pd.read_parquet(made_run / "scores.parquet")
    last = pd.read_parquet(made_run / "dynamics/epoch=6/part-0.parquet").set_index("example_id")
    pixels = decoded_digits()
    assert sorted(group.label for group in found.groups) == list(range(10))
    assert {score.name for score in found.scores} == {*scores.columns} - {"example_id"}
    for group in found.groups:
        hardest = [card for card in group.cards if LISTS.index("hardest") in card.lists]
        assert len(hardest) == 6
        assert hardest == list(group.cards[:6])
        for card in group.cards:
            assert card.given == group.name == str(last["given_label"][card.example_id])
            assert card.prediction == str(last["prediction"][card.example_id])
            assert card.curve.last == last["loss"][card.example_id]
            epoch = scores["first_learned_epoch"][card.example_id]
            assert card.learned == ("never" if pd.isna(epoch) else str(epoch))
            assert card.image.is_tiny
            image = opened(card.image.uri)
            assert image.mode == "L"
            assert (np.asarray(image) == pixels[card.example_id]).all()
    page = read(gallery_page(found))
    assert len(page.tagged("img")) == len(page.tagged("svg")) == found.numbers["cards"]
    card = found.groups[0].cards[0]
    alt = f"{card.key}, given label {card.given}, predicted {card.prediction}"
    assert page.tagged("img")[0]["alt"] == alt
    assert f"loss {card.curve.first:.3g} in epoch 1, {card.curve.last:.3g} in epoch 6" in page.texts


def decoded_digits():
    from hardness import datasets
    from hardness.config import Data

    return datasets.load(Data()).train.inputs.shards[0][..., 0]


def test_under_label_noise_the_clean_label_is_marked(here, gallery_page):
    run = tracked_run(here / "noisy", epochs=2, noise=0.3)
    found = gallery({run: finished_info(run)}, images=False)
    examples = pd.read_parquet(run / "examples.parquet")
    cards = [card for group in found.groups for card in group.cards]
    for card in cards:
        row = examples.loc[card.example_id]
        assert card.given == str(row["given_label"])
        assert card.clean == (str(row["clean_label"]) if row["is_corrupt"] else None)
    num_marked = sum(card.clean is not None for card in cards)
    assert 0 < num_marked < len(cards)
    assert read(gallery_page(found)).texts.count("clean label") == num_marked


@pytest.fixture
def photos(image_folder, here):
    """A run on image files, of which one cannot be read."""
    (image_folder / "train/dog/3.png").write_bytes(b"no picture")
    write_image(image_folder / "train/eel/0.png", seed=1, size=(200, 100))
    settings = {"model": "small_cnn", "batch_size": 6, "workers": 0, "on_bad_image": "null"}
    run = tracked_run(here / "photos", data=f"imagefolder:{image_folder}", epochs=2, **settings)
    return {run: finished_info(run)}


def test_image_files_are_shown_whole_and_only_those_are_read(photos, monkeypatch):
    seen, read_picture = [], decoding.read_picture
    monkeypatch.setattr(
        decoding, "read_picture", lambda place, *how: seen.append(place) or read_picture(place)
    )
    found = gallery(photos)
    cards = {card.key: card for group in found.groups for card in group.cards}
    assert sorted(Path(place).relative_to(Path(place).parents[2]).as_posix() for place in seen) == sorted(
        cards
    )
    assert "train/dog/3.png" not in cards
    wide = cards["train/eel/0.png"].image
    assert not wide.is_tiny
    assert opened(wide.uri).size == (96, 48)
    assert opened(wide.uri).format == "WEBP"
    assert opened(cards["train/cat/0.png"].image.uri).size == (12, 12)
    assert len(found.notes) == 2


def test_without_the_data_set_there_are_no_images(photos, image_folder, capsys, gallery_page):
    image_folder.rename(image_folder.with_name("moved"))
    found = gallery(photos)
    assert {card.image for group in found.groups for card in group.cards} == {None}
    assert str(image_folder) in found.notes[2]
    assert str(image_folder) in capsys.readouterr().err
    assert not read(gallery_page(found)).tagged("img")
    image_folder.with_name("moved").rename(image_folder)
    write_image(image_folder / "train/cat/new.png", seed=1)
    assert len(gallery(photos).notes) == 3


def test_no_images_reads_no_data(photos, monkeypatch, capsys):
    monkeypatch.setattr("hardness.datasets.load", None)
    assert "--no-images" in gallery(photos, images=False).notes[2]
    assert capsys.readouterr().err == ""
