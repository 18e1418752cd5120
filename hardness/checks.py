"""What a value given by the user must be. Each check raises ``UserError``; nothing here imports torch."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hardness.errors import UserError
from hardness.registry import source_of


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
    source_of(data).check_syntax()


def check_place(data: str, **flags: Any) -> None:
    """What ``data`` names must exist. ``flags``: values of flags that only some sources accept."""
    source = source_of(data)
    for name, value in flags.items():
        sentence = "{flag} applies to image files only, not to --data {data}."
        holds = value is None or name in source.flags
        require(holds, "flag-needs-image-files", sentence, "Remove it.", flag=_flag(name), data=data)
    source.check(flags.get("val_fraction"))


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
