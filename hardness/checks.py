"""What a value given by the user must be. Each check raises ``UserError``; nothing here imports torch."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hardness.errors import UserError, unknown_name
from hardness.parts import TRAIN, held_out, part_folders
from hardness.paths import matching, parquet_place
from hardness.registry import TORCHVISION_DATASETS, parse_data


def require(holds: bool, code: str, sentence: str, hint: str, /, **values: Any) -> None:
    """Raise ``UserError`` unless ``holds``."""
    if not holds:
        raise UserError(code, sentence, hint, **values)


def require_range(holds: bool, flag: str, must: str, value: Any) -> None:
    """``must`` names the range: "positive", "in (0, 1)"."""
    sentence = "{flag} must be {must} (got {value})."
    require(holds, "out-of-range", sentence, "Choose another value.", flag=flag, must=must, value=value)


def require_fraction(flag: str, value: float) -> None:
    require_range(0 < value < 1, flag, "between 0 and 1", value)


def require_positive(**values: float | None) -> None:
    for name, value in values.items():
        require_range(value is None or 0 < value < math.inf, _flag(name), "positive", value)


def require_non_negative(**values: float | None) -> None:
    for name, value in values.items():
        require_range(value is None or 0 <= value < math.inf, _flag(name), "0 or more", value)


def require_distinct(setting: str, values: Sequence[Any]) -> None:
    sentence = "{setting} has repeated values (got {values})."
    told = {"setting": setting, "values": " ".join(map(str, values))}
    require(len({*values}) == len(values), "repeated-values", sentence, "Give each value once.", **told)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def check_data(data: str) -> None:
    entry, place = parse_data(data)
    if entry.name == "digits":
        sentence = "digits takes no path (got {data})."
        require(not place, "path-after-digits", sentence, "Write --data digits.", data=data)
        return
    if entry.name == "torchvision":
        name, _, place = place.partition(":")
        if name not in TORCHVISION_DATASETS:
            raise unknown_name("a torchvision data set", name, TORCHVISION_DATASETS)
    form = f"{entry.name}:NAME:PATH" if entry.name == "torchvision" else f"{entry.name}:PATH"
    sentence = "--data {data} names no path."
    require(bool(place), "no-data-path", sentence, "Write --data {form}.", data=data, form=form)


def check_place(data: str, **flags: Any) -> None:
    """What ``data`` names must exist. ``flags``: values of flags that only some sources accept."""
    entry, place = parse_data(data)
    for name, value in flags.items():
        accepted = has_files(data) or (name == "size" and entry.name == "packed")
        sentence = "{flag} applies to image files only, not to --data {data}."
        holds = accepted or value is None
        require(holds, "flag-needs-image-files", sentence, "Remove it.", flag=_flag(name), data=data)
    if entry.name == "packed":
        sentence, hint = "{folder} has no pack.json.", "Check the path, or run `hardness pack` first."
        require((Path(place) / "pack.json").is_file(), "not-a-packed-folder", sentence, hint, folder=place)
    elif entry.name in ("tar", "parquet"):
        pattern = parquet_place(place)[0] if entry.name == "parquet" else place
        found = matching(pattern)
        hint = "Check the path or pattern."
        if entry.name == "parquet" and ":" in place:
            hint += " Columns are named as parquet:PATTERN:IMAGE_COLUMN:LABEL_COLUMN."
        require(bool(found), "no-matching-files", "No file matches {pattern}.", hint, pattern=pattern)
        folder = next((path for path in found if Path(path).is_dir()), None)
        _check_once(found)
        sentence, hint = "{folder} is a folder, not a {kind} file.", "Write {kind}:{pattern}/*.{kind}."
        values = {"folder": folder, "kind": entry.name, "pattern": pattern}
        require(folder is None, "folder-instead-of-file", sentence, hint, **values)
    elif entry.name in ("imagefolder", "imagenet"):
        _check_folder(place, flags.get("val_fraction"))


def _check_once(paths: list[str]) -> None:
    """No file may be listed a second time through a link: its examples would count twice."""
    seen: dict[tuple[int, int], str] = {}
    for path in paths:
        found = Path(path).stat()
        first = seen.setdefault((found.st_dev, found.st_ino), path)
        sentence, hint = (
            "{path} is the same file as {first}.",
            "Remove one of them: examples would count twice.",
        )
        require(first == path, "same-file-twice", sentence, hint, path=path, first=first)


def has_files(data: str) -> bool:
    """Is it read from the user's own image files, which have to be decoded?"""
    return parse_data(data)[0].name in ("imagefolder", "imagenet", "tar", "parquet")


def _check_folder(place: str, val_fraction: float | None) -> None:
    root = Path(place)
    require(root.is_dir(), "no-such-folder", "There is no folder {folder}.", "Check the path.", folder=place)
    inside = ", ".join(sorted(path.name for path in root.iterdir())[:5]) or "nothing"
    parts = part_folders(root)
    values = {"folder": place, "inside": inside}
    sentence = "{folder} has no folder train (it contains {inside})."
    hint = "Put the training images into {folder}/train/CLASS/."
    require(TRAIN in parts, "no-train-folder", sentence, hint, **values)
    held_part = held_out(parts)
    if val_fraction is None:
        sentence = "{folder} has no folder val (it contains {inside})."
        hint = "Put the validation images into {folder}/val/CLASS/, or pass --val-fraction 0.1."
        require(held_part is not None, "no-val-folder", sentence, hint, **values)
    elif held_part is not None:
        sentence = "--val-fraction {val_fraction} was given, but {folder} has its own folder {part}."
        values |= {"val_fraction": val_fraction, "part": str(parts[held_part][0])}
        raise UserError("val-folder-and-fraction", sentence, "Remove --val-fraction.", **values)


def check_background(color: str) -> None:
    # Pillow takes a while to import, and the default needs no check.
    if color == "white":
        return
    from PIL import ImageColor

    try:
        ImageColor.getrgb(color)
    except ValueError as error:
        sentence, hint = "--background {color!r} is not a color.", "Write a name such as black, or #RRGGBB."
        raise UserError("not-a-color", sentence, hint, color=color) from error


def check_noise(noise: float, given_labels: Path | None) -> None:
    require_range(0 <= noise <= 1, "--noise", "between 0 and 1", noise)
    sentence = "--noise {noise} and --given-labels {path} cannot be combined."
    hint = "Remove --given-labels, or pass --noise 0."
    holds = noise == 0 or given_labels is None
    require(holds, "noise-and-given-labels", sentence, hint, noise=noise, path=given_labels)
