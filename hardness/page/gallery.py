"""Cards of the easiest, hardest, most forgotten and likely mislabeled examples, for the page."""

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
from hardness.dynamics.scores import SCORES, ScoreEntry
from hardness.errors import UserError
from hardness.page.describe import Runs, described
from hardness.runs.reading import OWN, has_logits
from hardness.subsets import rank

LISTS = ("easiest", "hardest", "most forgotten", "likely mislabeled")
_BY = "first_learned_epoch"
_NEEDED = ["example_id", "mean_loss", _BY, "forgetting_events", "aum"]
_NUM_CARDS, _MOST_OF_A_LIST = 400, 6
_THUMBNAIL, _TINY = 96, 32
"""Maximum pixels of the longer side of a thumbnail, and of images that are enlarged without smoothing."""
_WIDTH, _HEIGHT, _MOST_POINTS = 240, 60, 60
"""Size of a loss curve in SVG units, and its maximum number of points."""
_MOST_LETTERS = 300
_GUESSING = 2 / 3
"""The loss of guessing, as a fraction of the height; most losses are below it."""


@dataclass(frozen=True)
class Thumbnail:
    """A small image, embedded in the page."""

    uri: str
    is_tiny: bool
    """Enlarge it without smoothing."""


@dataclass(frozen=True)
class Curve:
    """The loss of an example by epoch, mean over runs."""

    first: float
    last: float
    points: str
    """Of a polyline in 240 x 60 units, closed below the drawing: a loss L of C classes is at
    L / (L + ln C / 2) of the height."""


@dataclass(frozen=True)
class Card:
    """An example, as text."""

    example_id: int
    key: str
    given: str
    clean: str | None
    """None if it equals the given one."""
    prediction: str | None
    """The most frequent one over runs at the last epoch; None without records."""
    learned: str
    lists: tuple[int, ...]
    """Positions in ``LISTS``."""
    values: tuple[str, ...]
    """One per score: mean over runs."""
    places: tuple[int, ...]
    """One per score: 0 is the easiest of all cards."""
    curve: Curve | None
    image: Thumbnail | None
    text: str | None
    """Instead of an image: a text, or a row of a table, one "name: value" per line."""


@dataclass(frozen=True)
class CardGroup:
    """The cards of one given label, hardest first."""

    label: int
    name: str
    cards: tuple[Card, ...]


@dataclass(frozen=True)
class Gallery:
    """The content of gallery.html."""

    runs: list[Path]
    scores: tuple[ScoreEntry, ...]
    """The cards can be sorted by these."""
    lists: tuple[str, ...]
    groups: tuple[CardGroup, ...]
    """From the easiest class to the hardest."""
    num_epochs: int
    notes: tuple[str, ...]
    """Sentences: how examples were selected, what the curves show, why there are no images."""
    numbers: dict[str, float]
    """The numbers in the sentences."""


def all_galleries(runs: Runs, with_images: bool) -> list[tuple[str, Gallery]]:
    """One gallery per group of tracked runs, with their settings; none of runs that recorded losses alone."""
    groups = described({path: info for path, info in runs.items() if has_logits(info)}, "track")
    return [(settings, gallery(group, with_images)) for group, settings in groups]


def gallery(runs: dict[Path, dict[str, Any]], images: bool = True) -> Gallery:
    """The gallery of finished runs of ``track`` that differ in their seeds: run folder -> run.json.

    Runs whose given labels differ from those of the first run are ignored. ``images``: open the data set as
    tracked, and read the images that are shown; if it is missing, the gallery says so.
    """
    info = next(iter(runs.values()))
    fingerprint, class_names = info["fingerprint"], info["data"]["class_names"]
    same = info.get("labels_fingerprint")
    paths = [path for path, each in runs.items() if each.get("labels_fingerprint") == same]
    examples = paths[0] / "examples.parquet"
    given = files.read_table(examples, fingerprint, ["given_label"])["given_label"].to_numpy()
    scores = [path / "scores.parquet" for path in paths]
    chosen = select([files.read_table(path, fingerprint, _NEEDED).to_pandas() for path in scores], given)
    ids = chosen["example_id"].to_numpy()
    tables = [files.read_table(path, fingerprint).take(ids).to_pandas() for path in scores]
    names = [name for name in common_scores(tables) if all(is_whole(table, name) for table in tables)]
    values, places = zip(*(_values_and_places(tables, name) for name in names), strict=True)
    named = files.read_table(examples, fingerprint).take(ids).to_pydict()
    clean_labels = named.get("clean_label", chosen["label"])
    losses, predictions = _records(paths, fingerprint, ids)
    thumbnails, no_images = _thumbnails(info, ids, named, images)
    texts = named.get("text", named.get("row"))

    def card(i: int, label: int) -> Card:
        clean = clean_labels[i]
        return Card(
            example_id=int(ids[i]),
            key=named["key"][i],
            given=class_names[label],
            clean=None if clean == label else class_names[clean],
            prediction=class_names[predictions[i]] if len(predictions) else None,
            learned=values[names.index(_BY)][i].removesuffix(" learned"),
            lists=tuple(number for number, name in enumerate(LISTS) if chosen[name].iloc[i]),
            values=tuple(of_score[i] for of_score in values),
            places=tuple(place[i] for place in places),
            curve=_curve(losses[:, i], len(class_names)) if len(losses) else None,
            image=thumbnails.get(ids[i]),
            text=texts[i][:_MOST_LETTERS] + "…" * (len(texts[i]) > _MOST_LETTERS) if texts else None,
        )

    groups = tuple(
        CardGroup(label, class_names[label], tuple(card(i, label) for i in members.index))
        for label, members in chosen.groupby("label", sort=False)
    )
    num_classes = len(np.unique(given[given >= 0]))
    numbers = {"cards": len(ids), "classes shown": len(groups), "classes": num_classes}
    numbers |= {"of each list": _sizes(num_classes, _NUM_CARDS)[1], "runs ranked": len(paths)}
    numbers |= {"runs": len(runs), "epochs": len(losses), "loss of guessing": math.log(len(class_names))}
    numbers["classes guessed among"] = len(class_names)
    notes = [_describe_choice(numbers), _describe_curves(numbers), no_images]
    return Gallery(
        runs=list(runs),
        scores=tuple(SCORES[name] for name in names),
        lists=LISTS,
        groups=groups,
        num_epochs=len(losses),
        notes=tuple(note for note in notes if note),
        numbers=numbers,
    )


def select(tables: Sequence[pd.DataFrame], given: np.ndarray, num_cards: int = _NUM_CARDS) -> pd.DataFrame:
    """The examples to show: example_id, label, and a bool column for each of ``LISTS``.

    tables: of each run example_id, mean_loss, first_learned_epoch, forgetting_events and aum, one row per
    example, ordered by id; given: int (N,) labels. Each list has the same number of examples of each label,
    from one to six, so that there are about ``num_cards``; if one is too many, classes are selected, evenly
    spaced from the easiest (by mean rank) to the hardest. Rows are ordered by class, easiest first, and
    within a class from the hardest example on. Ranks and forgetting events are means over runs (0 events if
    a run never learned the example). Unreadable examples are ignored.
    """
    events = [table["forgetting_events"].to_numpy(np.float64, na_value=0) for table in tables]
    ranked = rank(tables, _BY)
    ids = ranked["example_id"]
    ranked = ranked.assign(label=given[ids], events=np.mean(events, axis=0)[ids])
    classes = ranked.groupby("label")["rank"].mean().sort_values(kind="stable").index
    num_classes, size = _sizes(len(classes), num_cards)
    classes = classes[np.linspace(0, len(classes) - 1, num_classes).round().astype(int)]
    ranked = ranked[ranked["label"].isin(classes)]
    forgotten = ranked[ranked["events"] > 0].sort_values("events", kind="stable")
    # As in `hardness labels`: of equal ones, the smaller id is more suspicious.
    suspects = rank(tables, "aum").sort_values(["rank", "example_id"], ascending=[True, False])
    suspects = suspects.assign(label=given[suspects["example_id"]])
    # A label that the networks preferred to all others, on average, is not a suspect.
    margin = np.mean([table["aum"] for table in tables], axis=0)
    suspects = suspects[margin[suspects["example_id"]] < 0]
    found = [ranked.groupby("label").head(size)["example_id"]]
    found += [each.groupby("label").tail(size)["example_id"] for each in (ranked, forgotten, suspects)]
    is_in = {name: ranked["example_id"].isin(each) for name, each in zip(LISTS, found, strict=True)}
    chosen = ranked[["example_id", "label"]].assign(**is_in)[np.logical_or.reduce([*is_in.values()])]
    # Hardest example first, easiest class first.
    position = pd.Series(range(len(classes)), index=classes)
    order = np.argsort(position[chosen["label"]].to_numpy()[::-1], kind="stable")
    return chosen.iloc[::-1].iloc[order].reset_index(drop=True)


def _sizes(num_classes: int, num_cards: int) -> tuple[int, int]:
    """The number of classes, and of examples per class and list."""
    num_classes = min(num_classes, max(1, num_cards // len(LISTS)))
    return num_classes, max(1, min(_MOST_OF_A_LIST, num_cards // (len(LISTS) * num_classes)))


def _describe_choice(numbers: dict[str, float]) -> str:
    size, ranked, num_runs = (numbers[name] for name in ("of each list", "runs ranked", "runs"))
    many = f"{size} " if size > 1 else ""
    mean = f" Ranks are means over {ranked} runs." if ranked > 1 else ""
    if ranked < num_runs:
        mean = f" Ranks are from {ranked} of {num_runs} runs, which have the same given labels."
    num_shown, num_classes = numbers["classes shown"], numbers["classes"]
    some = f"{num_shown} of {num_classes:,} classes" if num_shown < num_classes else "All classes"
    return (
        f"For each given label: the {many}easiest and the {many}hardest examples (by first-learned epoch, "
        f"ties by mean loss), the {many}most often forgotten and the {many}most likely mislabeled (lowest "
        f"AUM, if negative).{mean} {some}, from the easiest to the hardest."
    )


def _describe_curves(numbers: dict[str, float]) -> str:
    if not numbers["epochs"]:
        return "These runs have no records of single epochs, so there are no curves and no predictions."
    return (
        f"Curves: cross-entropy over {numbers['epochs']} epochs, mean over runs, from 0 (bottom) to infinity "
        f"(top). The dotted line is the loss of uniform guessing, ln {numbers['classes guessed among']} = "
        f"{numbers['loss of guessing']:.2f} nats."
    )


def _values_and_places(tables: Sequence[pd.DataFrame], by: str) -> tuple[list[str], list[int]]:
    """A score of each card as text, its mean over the runs that have it; and the card's position by it.

    Position 0 is the easiest. The more runs never learned an example, the harder it is; ties are broken by
    mean loss, then by id.
    """
    of_runs = np.stack([table[by].to_numpy(np.float64, na_value=np.nan) for table in tables])
    counts = (~np.isnan(of_runs)).sum(0)
    means = np.nansum(of_runs, axis=0) / np.maximum(counts, 1)
    null = "wrong at the last epoch" if by == "learned_epoch" else "never learned"
    texts = []
    for mean, count in zip(means, counts, strict=True):
        some = f" in {count} of {len(tables)} runs" if count < len(tables) else ""
        texts.append(f"{mean:.3g}{some}" if count else null)
    losses = np.mean([table["mean_loss"] for table in tables], axis=0)
    order = np.lexsort((tables[0]["example_id"], losses, SCORES[by].sign * means, -counts))
    return texts, np.argsort(order).tolist()


def _records(paths: Sequence[Path], fingerprint: str, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(losses (epochs, cards), mean over runs; most frequent prediction (cards,) at the last epoch).

    Runs without records are ignored; both are empty if no run has any.
    """
    losses, predictions = [], []
    for path in filter(store.recorded_epochs, paths):
        losses.append([])
        predictions.append(np.zeros(len(ids), int))
        for _, records in store.read_epochs(path, fingerprint):
            losses[-1].append(records.loss[ids])
            np.copyto(predictions[-1], records.prediction[ids], where=records.is_readable[ids])
    if not losses:
        return np.empty((0, 0)), np.empty(0, int)
    # Ties: argmax returns the smallest class index.
    most = [np.bincount(of_example).argmax() for of_example in np.transpose(predictions)]
    return np.ma.masked_invalid(losses).mean(0).filled(np.nan), np.array(most)


def _curve(losses: np.ndarray, num_classes: int) -> Curve:
    """Losses (epochs,) -> the curve, on a scale that is the same for all cards and keeps outliers inside."""
    known = np.flatnonzero(~np.isnan(losses))
    shown = known[np.linspace(0, len(known) - 1, min(len(known), _MOST_POINTS)).round().astype(int)]
    heights = losses[shown] / (losses[shown] + math.log(num_classes) * (1 / _GUESSING - 1))
    x = np.round(shown * (_WIDTH / max(1, len(losses) - 1))).astype(int)
    y = np.round(1 + (_HEIGHT - 2) * (1 - heights)).astype(int)
    # Points outside of the drawing close the area below the curve without an outline.
    x = [-9, -9, *x, _WIDTH + 9, _WIDTH + 9]
    y = [_HEIGHT + 9, y[0], *y, y[-1], _HEIGHT + 9]
    points = " ".join(f"{a},{b}" for a, b in zip(x, y, strict=True))
    return Curve(float(losses[known[0]]), float(losses[known[-1]]), points)


def _thumbnails(
    info: dict[str, Any], ids: np.ndarray, described: dict[str, list], images: bool
) -> tuple[dict[int, Thumbnail], str]:
    """({example id: its thumbnail}, the reason if there are none). described: columns of examples.parquet."""
    if info.get("record_mode") == OWN and not {"image", "image_path"} & described.keys():
        return {}, ""
    if not images:
        return {}, "Images are left out (--no-images)."
    try:
        if "image" in described:
            found = (Image.open(io.BytesIO(file)) for file in described["image"])
        elif "image_path" in described:
            found = map(Image.open, described["image_path"])
        else:
            # torch is slow to import; the rest of the gallery does not need it.
            from hardness.probes.tracked_run import load_unread

            # Image files are shown whole, not as the network sees them; read in the order of ids.
            ids = np.sort(ids)
            examples = load_unread(info).train
            found = (_as_image(examples.preview(example)) for example in ids)
        return {example: _thumbnail(image) for example, image in zip(ids, found, strict=True)}, ""
    except (UserError, OSError) as error:
        warn(f"The gallery has no images: {error}")
        return {}, f"No images: {error}"


def _as_image(pixels: Any) -> Image.Image:
    """uint8 tensor (C, H, W)."""
    array = pixels.permute(1, 2, 0).numpy()
    return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)


def _thumbnail(image: Image.Image) -> Thumbnail:
    image = image if image.mode in ("L", "RGB", "RGBA") else image.convert("RGB")
    is_tiny = max(image.size) <= _TINY
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    kind, options = ("png", {"optimize": True}) if is_tiny else ("webp", {"quality": 80, "method": 6})
    file = io.BytesIO()
    image.save(file, kind, **options)
    return Thumbnail(f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}", is_tiny)
