"""Image folders: PATH/train/CLASS/*.jpg and PATH/val/CLASS/*.jpg, in torchvision's class order."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hardness.checks import require
from hardness.datasets.found import (
    EXTENSIONS,
    Notes,
    first_of,
    no_images,
    note_hidden,
    note_others,
    one_class,
    two_validation_sets,
)
from hardness.datasets.source import File, FileSource, Found, Sample
from hardness.errors import UserError
from hardness.parts import TEST, TRAIN, VALIDATION, held_out, part_folders
from hardness.paths import is_hidden
from hardness.registry import SOURCES


@SOURCES.register("imagefolder")
class ImageFolder(FileSource):
    """PATH/train/CLASS/*.jpg and PATH/val/CLASS/*.jpg."""

    is_image_folder = True

    def check(self, val_fraction: float | None) -> None:
        root, place = Path(self.place), self.place
        sentence = "There is no folder {folder}."
        require(root.is_dir(), "no-such-folder", sentence, "Check the path.", folder=place)
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
            raise two_validation_sets(val_fraction, place, [str(parts[held_part][0])])

    def find(self) -> Found:
        """Scan the folders."""
        notes, scan = Notes(), _Walk(Path(self.place))
        folders = part_folders(scan.root)
        if unnamed := folders.pop("", []):
            names = ", ".join(folder.name for folder in unnamed[:5])
            notes.warn(f"skipped folders that are not named train, val or test: {names}")
        scan.outer()
        # A test set often has no class folders, so it is only read if it serves for validation.
        unused = folders.pop(TEST, []) if VALIDATION in folders else []
        classes = [
            (part, folder, each)
            for part in folders
            for folder in folders[part]
            for each in scan.inside(folder)
        ]
        class_of = one_class((each.name for _, _, each in classes), notes)
        class_names = sorted(set(class_of.values()))
        if not class_names:
            sentence, hint = "{path} has no class folders.", "Put the images of each class in a folder."
            raise UserError("no-class-folders", sentence, hint, path=str(scan.root / "train"))
        number_of = {name: number for number, name in enumerate(class_names)}
        found: dict[str, list[Sample]] = {part: [] for part in folders}
        for part, folder, each in sorted(classes, key=lambda found: (class_of[found[2].name], found[1:])):
            label = number_of[class_of[each.name]]
            samples = [Sample(path, label, scan.key(path), folder.name) for path in scan.images(each)]
            if not samples:
                raise no_images(each, f"Add files ending in {' '.join(EXTENSIONS)}, or remove the folder.")
            found[part] += samples
        note_hidden(scan.hidden, notes)
        note_others(scan.others, notes)
        if scan.outside:
            notes.warn(f"skipped images outside class folders: {first_of(scan.outside)}")
        left_out = [folder.name for folder in unused]
        return Found(found, class_names, notes, left_out)


@SOURCES.register("imagenet")
class ImageNet(ImageFolder):
    """PATH, an image folder whose images are resized and cropped as in ImageNet's recipes."""

    has_imagenet_sizes = True


def _scan(folder: str) -> Any:
    try:
        return os.scandir(folder)
    except OSError as error:
        sentence, values = "{path} cannot be read ({reason}).", {"path": folder, "reason": error.strerror}
        raise UserError("unreadable-folder", sentence, "Check its permissions.", **values) from error


@dataclass
class _Walk:
    """Walks through folders, and collects what it finds besides images."""

    root: Path
    hidden: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    """Images outside class folders."""
    _seen: dict[tuple[int, int], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._enter(str(self.root))

    def key(self, path: str) -> str:
        return path.removeprefix(f"{self.root}/")

    def outer(self) -> None:
        """Collect the files next to the folders of the parts."""
        for each in sorted(self.root.iterdir()):
            if is_hidden(each.name):
                self.hidden.append(each.name)
            elif each.is_file() and each.name.lower().endswith(EXTENSIONS):
                self.outside.append(str(each))

    def inside(self, folder: Path) -> Iterator[Path]:
        """The class folders of a part."""
        self._enter(str(folder))
        for each in sorted(folder.iterdir()):
            if is_hidden(each.name):
                self.hidden.append(each.name)
            elif each.is_dir():
                yield each
            else:
                is_image = each.name.lower().endswith(EXTENSIONS)
                (self.outside if is_image else self.others).append(str(each))

    def images(self, folder: Path) -> Iterator[File]:
        """The image files below a folder, by folder and name. Links to folders are followed."""
        for here, name in sorted(self._files(folder)):
            if name.lower().endswith(EXTENSIONS):
                yield File(f"{here}/{name}")
            else:
                self.others.append(name)

    def _files(self, folder: Path) -> Iterator[tuple[str, str]]:
        """(folder, name), in no order."""
        to_do = [str(folder)]
        while to_do:
            here = to_do.pop()
            self._enter(here)
            with _scan(here) as entries:
                for entry in entries:
                    if is_hidden(entry.name):
                        self.hidden.append(entry.name)
                    elif entry.is_dir(follow_symlinks=False):
                        to_do.append(entry.path)
                    elif entry.is_file(follow_symlinks=False):
                        yield here, entry.name
                    elif (path := Path(entry.path)).is_dir():
                        to_do.append(entry.path)
                    elif path.is_file() or not path.exists():
                        # A broken link raises an error when it is read.
                        yield here, entry.name
                    else:
                        self.others.append(entry.name)

    def _enter(self, folder: str) -> None:
        """Raises ``UserError`` for a folder already visited: links form a loop, or point to a sibling."""
        found = Path(folder).stat()
        first = self._seen.setdefault((found.st_dev, found.st_ino), folder)
        if first != folder:
            sentence = "{path} is the same folder as {first}."
            hint = "Remove the link: examples would count twice."
            raise UserError("same-folder-twice", sentence, hint, path=folder, first=first)
