"""What a value given by the user must be. Each check raises ``UserError``; nothing here imports torch."""

import math
from pathlib import Path
from typing import Any

from hardness.errors import UserError, unknown_name
from hardness.parts import TRAIN, held_out, part_folders
from hardness.paths import matching, parquet_place
from hardness.registry import TORCHVISION_DATASETS, parse_data


def require(holds: bool, expected: str, found: Any, do: str) -> None:
    if not holds:
        raise UserError(expected, str(found), do)


def require_fraction(name: str, value: float) -> None:
    require(0 < value < 1, f"0 < {name} < 1", value, "choose another")


def require_positive(**values: float | None) -> None:
    for name, value in values.items():
        is_positive = value is None or (value > 0 and math.isfinite(value))
        require(is_positive, f"a positive --{name.replace('_', '-')}", value, "choose another")


def check_data(data: str) -> None:
    entry, place = parse_data(data)
    if entry.name == "digits":
        require(not place, "digits alone", data, "leave out what follows the colon")
        return
    if entry.name == "torchvision":
        name, _, place = place.partition(":")
        if name not in TORCHVISION_DATASETS:
            raise unknown_name("a torchvision data set", name, TORCHVISION_DATASETS)
    do = "write torchvision:NAME:PATH" if entry.name == "torchvision" else f"write {entry.name}:PATH"
    require(bool(place), f"a path after {entry.name}", repr(data), do)


def check_place(data: str, **flags: Any) -> None:
    """What ``data`` names must be there. ``flags``: those given that only some sources have."""
    entry, place = parse_data(data)
    for flag, value in flags.items():
        has = has_files(data) or (flag == "size" and entry.name == "packed")
        name = f"--{flag.replace('_', '-')}"
        require(has or value is None, f"{name} with image files only", data, "leave out the flag")
    if entry.name == "packed":
        do = "check the path, or run `hardness pack` first"
        require((Path(place) / "pack.json").is_file(), f"a packed folder {place}", "no pack.json there", do)
    elif entry.name in ("tar", "parquet"):
        pattern = parquet_place(place)[0] if entry.name == "parquet" else place
        found = matching(pattern)
        do = "check the path or pattern"
        if entry.name == "parquet" and ":" in place:
            do += "; columns are named as parquet:PATTERN:IMAGE_COLUMN:LABEL_COLUMN"
        require(bool(found), f"files {pattern}", "none there", do)
        folders = [path for path in found if Path(path).is_dir()]
        _check_once(found)
        do = f"write {entry.name}:{pattern}/*.{entry.name}"
        require(not folders, f"{entry.name} files", f"the folder {', '.join(folders[:1])}", do)
    elif entry.name in ("imagefolder", "imagenet"):
        _check_folder(place, flags.get("val_fraction"))


def _check_once(paths: list[str]) -> None:
    """Each file is there once, not by a link as well: or its examples would be."""
    seen: dict[tuple[int, int], str] = {}
    for path in paths:
        found = Path(path).stat()
        other = seen.setdefault((found.st_dev, found.st_ino), path)
        require(other == path, "each file once", f"{other} again as {path}", "remove the link")


def has_files(data: str) -> bool:
    """Are its images in files of the user's, which are decoded?"""
    return parse_data(data)[0].name in ("imagefolder", "imagenet", "tar", "parquet")


def _check_folder(place: str, val_fraction: float | None) -> None:
    root = Path(place)
    require(root.is_dir(), f"a folder {root}", "none there", "check the path")
    inside = sorted(path.name for path in root.iterdir())[:5]
    held = f"{root} holding {', '.join(inside) or 'nothing'}"
    parts = part_folders(root)
    require(TRAIN in parts, f"a folder {root / 'train'}", held, "put one folder a class there")
    held_part = held_out(parts)
    if val_fraction is None:
        do = "put the validation images there, or pass --val-fraction 0.1"
        require(held_part is not None, f"a folder {root / 'val'}", held, do)
    elif held_part is not None:
        found = f"{parts[held_part][0]} and --val-fraction {val_fraction}"
        raise UserError(f"no validation or test images in {root}", found, "leave out --val-fraction")


def check_background(color: str) -> None:
    # Pillow takes a while to import, and the default needs no check.
    if color == "white":
        return
    from PIL import ImageColor

    try:
        ImageColor.getrgb(color)
    except ValueError as error:
        do = "write a name such as black, or #RRGGBB"
        raise UserError("a color for --background", repr(color), do) from error


def check_seed(**seeds: int) -> None:
    for name, seed in seeds.items():
        require(seed >= 0, f"--{name.replace('_', '-')} of 0 or more", seed, "choose another")


def check_noise(noise: float, given_labels: Path | None) -> None:
    require(0 <= noise <= 1, "--noise within 0..1", noise, "choose another")
    if noise > 0 and given_labels is not None:
        raise UserError("label noise or --given-labels", "both", "choose one: --noise 0 leaves out the noise")
