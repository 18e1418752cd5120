"""What the easiest, hardest, most forgotten and likely mislabelled examples look like: cards for the page."""

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from hardness import files
from hardness.console import warn
from hardness.dynamics import store
from hardness.dynamics.pool import common_scores, is_whole
from hardness.dynamics.scores import SCORES, Score
from hardness.errors import UserError
from hardness.stages.report.describe import Runs, describe_tracking, described
from hardness.subsets import rank

LISTS = ("easiest", "hardest", "most forgotten", "likely mislabelled")
_BY = "first_learned_epoch"
_NEEDED = ["example_id", "mean_loss", _BY, "forgetting_events", "aum"]
_NUM_CARDS, _MOST_OF_A_LIST = 400, 6
_THUMBNAIL, _TINY = 96, 32
"""Pixels of the long side: of what is shown, at most; of pictures that are shown pixel by pixel."""
_WIDTH, _HEIGHT, _MOST_POINTS = 240, 60, 60
"""Of a curve, in units of its drawing."""
_GUESSING = 2 / 3
"""Of the height: there is the loss of guessing, since most losses are below it."""


@dataclass(frozen=True)
class Thumbnail:
    """A small picture within the page."""

    uri: str
    is_tiny: bool
    """To be enlarged pixel by pixel."""


@dataclass(frozen=True)
class Curve:
    """The loss of an example by epoch, mean over the runs."""

    first: float
    last: float
    points: str
    """Of a polyline in 240 x 60 units, closed below the drawing: a loss L of C classes is at
    L / (L + ln C / 2) of the height."""


@dataclass(frozen=True)
class Card:
    """An example, in the words of the page."""

    example_id: int
    key: str
    given: str
    clean: str | None
    """None where it is the given one."""
    prediction: str | None
    """At the last epoch, of most runs; None without records."""
    learned: str
    lists: tuple[int, ...]
    """Positions in ``LISTS``."""
    values: tuple[str, ...]
    """One a score: mean over the runs."""
    places: tuple[int, ...]
    """One a score: 0 is the easiest of all cards."""
    curve: Curve | None
    image: Thumbnail | None


@dataclass(frozen=True)
class Group:
    """The cards of one given label, the hardest first."""

    label: int
    name: str
    cards: tuple[Card, ...]


@dataclass(frozen=True)
class Gallery:
    """What gallery.html shows."""

    scores: tuple[Score, ...]
    """By which the cards can be sorted."""
    lists: tuple[str, ...]
    groups: tuple[Group, ...]
    """From the easiest class to the hardest."""
    num_epochs: int
    notes: tuple[str, ...]
    """Sentences: how the examples were chosen, what the curves are, why there are no images."""
    numbers: dict[str, float]
    """Those in the sentences."""

    @property
    def num_cards(self) -> int:
        return sum(len(group.cards) for group in self.groups)


@dataclass(frozen=True)
class Shown:
    """A gallery, and of what."""

    settings: str
    runs: list[Path]
    gallery: Gallery


def all_galleries(runs: Runs, with_images: bool) -> list[Shown]:
    """One for each group of tracked runs."""
    return [
        Shown(settings, list(group), gallery(group, with_images))
        for group, settings in described(runs, "track", describe_tracking)
    ]


def gallery(runs: dict[Path, dict[str, Any]], images: bool = True) -> Gallery:
    """The gallery of finished runs of ``track`` that differ in their seeds: run folder -> run.json.

    Of runs under several label noises those with the given labels of the first are taken. ``images``: open
    the data set as tracked, and read those that are shown; where it is gone, the gallery says so.
    """
    info = next(iter(runs.values()))
    fingerprint, class_names = info["fingerprint"], info["data"]["class_names"]
    same = info.get("labels_fingerprint")
    paths = [path for path, each in runs.items() if each.get("labels_fingerprint") == same]
    examples = paths[0] / "examples.parquet"
    given = files.read_table(examples, fingerprint, ["given_label"])["given_label"].to_numpy()
    chosen = select(
        [files.read_table(path / "scores.parquet", fingerprint, _NEEDED).to_pandas() for path in paths], given
    )
    ids = chosen["example_id"].to_numpy()
    tables = [files.read_table(path / "scores.parquet", fingerprint).take(ids).to_pandas() for path in paths]
    names = [name for name in common_scores(tables) if all(is_whole(table, name) for table in tables)]
    values, places = zip(*(_judge(tables, name) for name in names), strict=True)
    named = files.read_table(examples, fingerprint, ["key", "clean_label"]).take(ids).to_pydict()
    losses, predictions = _records(paths, fingerprint, ids)
    thumbnails, no_images = _thumbnails(info, ids) if images else ({}, "Images were left out by request.")

    def card(i: int, label: int) -> Card:
        clean = named["clean_label"][i]
        return Card(
            example_id=int(ids[i]),
            key=named["key"][i],
            given=class_names[label],
            clean=None if clean == label else class_names[clean],
            prediction=class_names[predictions[i]] if len(predictions) else None,
            learned=values[names.index(_BY)][i].removesuffix(" learned"),
            lists=tuple(number for number, name in enumerate(LISTS) if chosen[name].iloc[i]),
            values=tuple(told[i] for told in values),
            places=tuple(place[i] for place in places),
            curve=_curve(losses[:, i], len(class_names)) if len(losses) else None,
            image=thumbnails.get(ids[i]),
        )

    groups = tuple(
        Group(label, class_names[label], tuple(card(i, label) for i in members.index))
        for label, members in chosen.groupby("label", sort=False)
    )
    num_classes = len(np.unique(given))
    numbers = {"cards": len(ids), "classes shown": len(groups), "classes": num_classes}
    numbers |= {"of each list": _sizes(num_classes, _NUM_CARDS)[1], "runs ranked": len(paths)}
    numbers |= {"runs": len(runs), "epochs": len(losses), "loss of guessing": math.log(len(class_names))}
    numbers["classes guessed among"] = len(class_names)
    notes = [_describe_choice(numbers), _describe_curves(numbers), no_images]
    return Gallery(
        scores=tuple(SCORES[name] for name in names),
        lists=LISTS,
        groups=groups,
        num_epochs=len(losses),
        notes=tuple(note for note in notes if note),
        numbers=numbers,
    )


def select(tables: Sequence[pd.DataFrame], given: np.ndarray, num_cards: int = _NUM_CARDS) -> pd.DataFrame:
    """The examples to show: example_id, label, and a bool column for each of ``LISTS``.

    tables: of each run example_id, mean_loss, first_learned_epoch, forgetting_events and aum, a row an
    example, ordered by id; given: int (N,) labels. Of each label as many of each list as make ``num_cards``,
    one at least and six at most; where one is too many, of classes evenly spaced from the easiest (by mean
    rank) to the hardest. Rows are in that order of classes, and in each from the hardest on. Ranks are the
    mean over runs, as in ``rank``; forgetting events too, none where a run never learned the example.
    Unreadable examples are left out.
    """
    events = np.mean(
        [table["forgetting_events"].to_numpy(np.float64, na_value=0) for table in tables], axis=0
    )
    ranked = rank(tables, _BY)
    ranked = ranked.assign(label=given[ranked["example_id"]], events=events[ranked["example_id"]])
    classes = ranked.groupby("label")["rank"].mean().sort_values(kind="stable").index
    num_classes, size = _sizes(len(classes), num_cards)
    classes = classes[np.linspace(0, len(classes) - 1, num_classes).round().astype(int)]
    ranked = ranked[ranked["label"].isin(classes)]
    forgotten = ranked[ranked["events"] > 0].sort_values("events", kind="stable")
    # As `hardness labels` has it: of equal ones the smaller id is the more suspicious.
    suspects = rank(tables, "aum").sort_values(["rank", "example_id"], ascending=[True, False])
    suspects = suspects.assign(label=given[suspects["example_id"]])
    # A label that the networks preferred to all others, on average, is not suspect.
    margin = np.mean([table["aum"] for table in tables], axis=0)
    suspects = suspects[margin[suspects["example_id"]] < 0]
    found = (
        ranked.groupby("label").head(size),
        ranked.groupby("label").tail(size),
        forgotten.groupby("label").tail(size),
        suspects.groupby("label").tail(size),
    )
    is_in = {
        name: ranked["example_id"].isin(members["example_id"])
        for name, members in zip(LISTS, found, strict=True)
    }
    chosen = ranked[["example_id", "label"]].assign(**is_in)[np.logical_or.reduce([*is_in.values()])]
    # The hardest first, in classes from the easiest on.
    place = pd.Series(range(len(classes)), index=classes)
    order = np.argsort(place[chosen["label"]].to_numpy()[::-1], kind="stable")
    return chosen.iloc[::-1].iloc[order].reset_index(drop=True)


def _sizes(num_classes: int, num_cards: int) -> tuple[int, int]:
    """How many classes, and how many examples of each in a list."""
    num_classes = min(num_classes, max(1, num_cards // len(LISTS)))
    return num_classes, max(1, min(_MOST_OF_A_LIST, num_cards // (len(LISTS) * num_classes)))


def _describe_choice(numbers: dict[str, float]) -> str:
    size, ranked, num_runs = (numbers[name] for name in ("of each list", "runs ranked", "runs"))
    many = f"{size} " if size > 1 else ""
    mean = f" Ranks are the mean of those in {ranked} runs." if ranked > 1 else ""
    if ranked < num_runs:
        mean = f" Ranks are of {ranked} of {num_runs} runs, those of the same given labels."
    num_shown, num_classes = numbers["classes shown"], numbers["classes"]
    some = f"{num_shown} of {num_classes:,} classes" if num_shown < num_classes else "All classes"
    return (
        f"Of each given label the {many}easiest and the {many}hardest (by first-learned epoch, ties by mean "
        f"loss), the {many}most often forgotten and the {many}most likely mislabelled (the lowest AUM, where "
        f"it is negative).{mean} {some}, from the easiest to the hardest."
    )


def _describe_curves(numbers: dict[str, float]) -> str:
    if not numbers["epochs"]:
        return "There are no records of single epochs here, so no curves and no predictions."
    return (
        f"Curves: cross-entropy by epoch, {numbers['epochs']} of them, mean over the runs; zero is at the "
        f"bottom, infinity at the top, and the dotted line is that of guessing, ln "
        f"{numbers['classes guessed among']} = {numbers['loss of guessing']:.2f}."
    )


def _judge(tables: Sequence[pd.DataFrame], by: str) -> tuple[list[str], list[int]]:
    """A score of each card in words, its mean over the runs that have it; and where that puts each, 0 first.

    From the easiest on: the more runs never learned an example, the harder it is; of equal ones the mean
    loss decides, and then the id.
    """
    of_runs = np.stack([table[by].to_numpy(np.float64, na_value=np.nan) for table in tables])
    counts = (~np.isnan(of_runs)).sum(0)
    means = np.nansum(of_runs, axis=0) / np.maximum(counts, 1)
    null = "not learned at last" if by == "learned_epoch" else "never learned"
    told = [_tell(mean, count, len(tables), null) for mean, count in zip(means, counts, strict=True)]
    losses = np.mean([table["mean_loss"] for table in tables], axis=0)
    order = np.lexsort((tables[0]["example_id"], losses, SCORES[by].sign * means, -counts))
    return told, np.argsort(order).tolist()


def _tell(mean: float, num_known: int, num_runs: int, null: str) -> str:
    some = f" in {num_known} of {num_runs} runs" if num_known < num_runs else ""
    return f"{mean:.3g}{some}" if num_known else null


def _records(paths: Sequence[Path], fingerprint: str, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(losses (epochs, cards), mean over the runs; class indices (cards,) that most runs predict at last).

    Of runs that have records; both are empty where none has.
    """
    losses, predictions = [], []
    for path in paths:
        if store.recorded_epochs(path):
            of_run = []
            for _, records in store.read_epochs(path, fingerprint):
                of_run.append(records.loss[ids])
            losses.append(of_run)
            predictions.append(records.prediction[ids])
    if not losses:
        return np.empty((0, 0)), np.empty(0, int)
    # Of equal counts argmax takes the first, which is the smallest index.
    most = [np.bincount(of_example).argmax() for of_example in np.transpose(predictions)]
    return np.mean(losses, axis=0), np.array(most)


def _curve(losses: np.ndarray, num_classes: int) -> Curve:
    """Of losses (epochs,). Every card has the same scale, on which no outlier flattens the others."""
    shown = np.linspace(0, len(losses) - 1, min(len(losses), _MOST_POINTS)).round().astype(int)
    heights = losses[shown] / (losses[shown] + math.log(num_classes) * (1 / _GUESSING - 1))
    x = np.round(shown * (_WIDTH / max(1, len(losses) - 1))).astype(int)
    y = np.round(1 + (_HEIGHT - 2) * (1 - heights)).astype(int)
    # What is outside of the drawing closes the area below the line without a line around it.
    x = [-9, -9, *x, _WIDTH + 9, _WIDTH + 9]
    y = [_HEIGHT + 9, y[0], *y, y[-1], _HEIGHT + 9]
    points = " ".join(f"{a},{b}" for a, b in zip(x, y, strict=True))
    return Curve(float(losses[0]), float(losses[-1]), points)


def _thumbnails(info: dict[str, Any], ids: np.ndarray) -> tuple[dict[int, Thumbnail], str]:
    """({example id: its picture}, why there are none)."""
    # torch is slow to import, and the rest of the gallery does without.
    from hardness.datasets.decoding import ImageFiles
    from hardness.stages.tracked import load_unread

    try:
        images = load_unread(info).train.images
        # Files, as they are, not as the network sees them. In the order of ids, which files lie in.
        found = {
            example: _thumbnail(
                images.picture(example) if isinstance(images, ImageFiles) else images[[example]][0]
            )
            for example in np.sort(ids)
        }
    except UserError as error:
        warn(f"the gallery has no images: {error}")
        return {}, f"No images: {error}."
    return found, ""


def _thumbnail(pixels: Any) -> Thumbnail:
    """Of a uint8 tensor (C, H, W)."""
    array = pixels.permute(1, 2, 0).numpy()
    image = Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)
    is_tiny = max(image.size) <= _TINY
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    kind, options = ("png", {"optimize": True}) if is_tiny else ("webp", {"quality": 80, "method": 6})
    file = io.BytesIO()
    image.save(file, kind, **options)
    return Thumbnail(f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}", is_tiny)
