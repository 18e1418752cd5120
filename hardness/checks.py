"""What a value given by the user must be. Each check raises ``UserError``; nothing here imports torch."""

import glob
import math
from pathlib import Path
from typing import Any

from hardness.errors import UserError, unknown_name
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
    if entry.name == "parquet":
        do = "write parquet:PATTERN, or parquet:PATTERN:IMAGE_COLUMN:LABEL_COLUMN"
        require(bool(place) and place.count(":") in (0, 2), "files and perhaps two columns", repr(data), do)
        return
    do = "write torchvision:NAME:PATH" if entry.name == "torchvision" else f"write {entry.name}:PATH"
    require(bool(place), f"a path after {entry.name}", repr(data), do)


def check_place(data: str, val_fraction: float | None, size: int | None) -> None:
    """What ``data`` names must be there, image folders with train/ and val/; not all have the two flags."""
    entry, place = parse_data(data)
    has_files = entry.name in ("imagefolder", "imagenet", "tar", "parquet")
    for flag, value, has in (
        ("--val-fraction", val_fraction, has_files),
        ("--size", size, has_files or entry.name == "packed"),
    ):
        require(has or value is None, f"{flag} with image files only", data, "leave out the flag")
    if entry.name == "packed":
        do = "check the path, or run `hardness pack` first"
        require((Path(place) / "pack.json").is_file(), f"a packed folder {place}", "no pack.json there", do)
    elif entry.name in ("tar", "parquet"):
        pattern = place.partition(":")[0] if entry.name == "parquet" else place
        found = bool(glob.glob(pattern))  # noqa: PTH207
        require(found, f"files {pattern}", "none there", "check the pattern")
    elif entry.name in ("imagefolder", "imagenet"):
        _check_folder(place, val_fraction)


def _check_folder(place: str, val_fraction: float | None) -> None:
    root = Path(place)
    require(root.is_dir(), f"a folder {root}", "none there", "check the path")
    inside = sorted(path.name for path in root.iterdir())[:5]
    held = f"{root} holding {', '.join(inside) or 'nothing'}"
    require((root / "train").is_dir(), f"a folder {root / 'train'}", held, "put one folder a class there")
    if val_fraction is None:
        do = "put the validation images there, or pass --val-fraction 0.1"
        require((root / "val").is_dir(), f"a folder {root / 'val'}", held, do)
    else:
        found = f"{root / 'val'} and --val-fraction {val_fraction}"
        require(not (root / "val").is_dir(), f"no {root / 'val'}", found, "leave out --val-fraction")


def check_seed(**seeds: int) -> None:
    for name, seed in seeds.items():
        require(seed >= 0, f"--{name.replace('_', '-')} of 0 or more", seed, "choose another")


def check_noise(noise: float, given_labels: Path | None) -> None:
    require(0 <= noise <= 1, "--noise within 0..1", noise, "choose another")
    if noise > 0 and given_labels is not None:
        raise UserError("label noise or --given-labels", "both", "choose one: --noise 0 leaves out the noise")
