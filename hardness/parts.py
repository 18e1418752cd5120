"""Which files are for training, validation or test: one rule for image folders, tars and Parquet files.

A whole word in the name of a shard, or of a folder between the data set's root and the classes, decides:
``imagenet1k-validation-00.tar``, ``partial-val/``, ``test2017/``. Names of classes and of images have no
influence. Nothing here imports torch.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from hardness.errors import UserError
from hardness.paths import is_hidden

TRAIN, VALIDATION, TEST = PARTS = ("train", "val", "test")
_WORDS = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval", "evaluation"), VALIDATION),
    **dict.fromkeys(("test", "testing"), TEST),
}
# A word has only letters, a number only digits; a capital after a small letter starts a new word.
_WORD = re.compile(r"[^\W\d_]+|\d+")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")


def _words(name: str) -> list[str]:
    return _WORD.findall(_HUMP.sub(" ", name).casefold())


def parts_in_name(name: str) -> set[str]:
    """The parts that are words of the name."""
    return {_WORDS[word] for word in _words(name) if word in _WORDS}


def part_of(name: str) -> str | None:
    """``pets_train`` -> ``train``; None if no word of the name is a part.

    Raises ``UserError`` if the name contains several parts.
    """
    found = parts_in_name(name)
    if len(found) > 1:
        parts = " and ".join(part for part in PARTS if part in found)
        sentence, hint = "The name {name!r} contains {parts}.", "Rename it so that it contains only one."
        raise UserError("several-parts-in-name", sentence, hint, name=name, parts=parts)
    return next(iter(found), None)


def innermost_part(names: Iterable[str]) -> str | None:
    """The part in the last of the names that contains one; from the outermost folder to the shard."""
    return next((part for name in reversed([*names]) if (part := part_of(name))), None)


def without_part(name: str) -> list[str]:
    """The words of a name except parts: the same for ``pets_train`` and ``pets_val``."""
    return [word for word in _words(name) or [name] if word not in _WORDS]


def part_folders(root: Path) -> dict[str, list[Path]]:
    """The folders of each part of an image folder; ``""``: those that are not used.

    Next to ``train``, a folder such as ``train_small`` is not used: it is usually a copy.
    """
    found: dict[str, list[Path]] = {}
    for folder in sorted(each for each in root.iterdir() if each.is_dir() and not is_hidden(each.name)):
        found.setdefault(part_of(folder.name) or "", []).append(folder)
    for part in set(found) - {""}:
        if bare := [folder for folder in found[part] if not without_part(folder.name)]:
            others = [folder for folder in found[part] if folder not in bare]
            found[part] = bare
            if others:
                found[""] = sorted(found.get("", []) + others)
    return found


def held_out(parts: Iterable[str]) -> str | None:
    """Which of the existing parts is the validation set: test only if there is no validation part."""
    existing = set(parts)
    return VALIDATION if VALIDATION in existing else TEST if TEST in existing else None
