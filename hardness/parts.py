"""Whether files are for training, validation or test: one rule for image folders, tars and Parquet files.

The name of a file of many examples (a shard), or of a folder between the data set's root and the classes,
says it by a whole word: ``imagenet1k-validation-00.tar``, ``partial-val/``, ``test2017/``. Names of classes
and of images never do. Nothing here imports torch.
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
# Words are of letters alone, and numbers of digits; a capital after a small letter begins a word.
_WORD = re.compile(r"[^\W\d_]+|\d+")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")


def _words(name: str) -> list[str]:
    return _WORD.findall(_HUMP.sub(" ", name).casefold())


def parts_in_name(name: str) -> set[str]:
    """The parts that words of the name say."""
    return {_WORDS[word] for word in _words(name) if word in _WORDS}


def part_of(name: str) -> str | None:
    """``pets_train`` -> ``train``; None where no word of the name says it.

    Raises ``UserError`` where words say two different parts.
    """
    found = parts_in_name(name)
    if len(found) > 1:
        told = " and ".join(part for part in PARTS if part in found)
        raise UserError("one of train, val and test in a name", f"{told} in {name!r}", "rename it")
    return next(iter(found), None)


def innermost_part(names: Iterable[str]) -> str | None:
    """Of names from the outermost folder to the innermost, or to the shard: the last that says it decides."""
    return next((part for name in reversed([*names]) if (part := part_of(name))), None)


def without_part(name: str) -> list[str]:
    """The words of a name but for those that say the part: equal for ``pets_train`` and ``pets_val``."""
    return [word for word in _words(name) or [name] if word not in _WORDS]


def part_folders(root: Path) -> dict[str, list[Path]]:
    """The folders of an image folder by what they are for; ``""``: those that are for nothing.

    Beside ``train`` a folder such as ``train_small`` is for nothing: most often it is a copy.
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
    """Which of the parts that are there is the validation set: test only where there is no other."""
    there = set(parts)
    return VALIDATION if VALIDATION in there else TEST if TEST in there else None
