"""Sources: where a data set comes from, chosen by the name before the colon of ``--data``.

Each is a class, registered in a file of this folder by that name. ``--data`` is checked before anything is
loaded, so these files do not import torch until ``load`` is called.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from hardness.checks import require
from hardness.config import Data
from hardness.datasets.found import Notes
from hardness.paths import matching
from hardness.registry import SOURCES

if TYPE_CHECKING:
    from hardness.datasets.decoding import ImageSource
    from hardness.datasets.examples import DataSet
    from hardness.resources import Resources


@dataclass(frozen=True)
class Source(ABC):
    """What ``--data NAME:PLACE`` names."""

    name: str
    place: str

    flags: ClassVar[frozenset[str]] = frozenset()
    """Flags that only some sources accept, and this one does."""
    has_image_files: ClassVar[bool] = False
    """Read from the user's own image files, which have to be decoded."""
    is_image_folder: ClassVar[bool] = False
    is_packed: ClassVar[bool] = False

    def check_syntax(self) -> None:
        """Raise ``UserError`` for a place that cannot be one."""
        self._require_path(self.place)

    def _require_path(self, path: str) -> None:
        data, form = f"{self.name}:{self.place}", SOURCES[self.name].form
        sentence = "--data {data} names no path."
        require(bool(path), "no-data-path", sentence, "Write --data {form}.", data=data, form=form)

    def check(self, val_fraction: float | None) -> None:  # noqa: B027
        """Raise ``UserError`` if there is no such data."""

    @property
    def packed_folder(self) -> Path:
        """The default folder of ``hardness pack``: next to the images, or to the folder of a pattern."""
        folder = Path(self.place) if self.is_image_folder else Path(self.place).parent
        folder = folder if folder.name else folder.resolve()
        return folder.with_name(f"{folder.name}.packed")

    @abstractmethod
    def load(self, config: Data, model: str, resources: "Resources") -> "DataSet":
        """Its examples. Raises ``UserError`` for anything the user can fix."""


class File(str):
    """The path of a file."""

    __slots__ = ()

    def read(self, size: int = -1) -> bytes:
        # Creating a Path takes a tenth of the time of reading a small image.
        with open(self, "rb") as file:  # noqa: PTH123
            return file.read(size)


class Sample(NamedTuple):
    """An image with its label."""

    image: "ImageSource"
    label: int
    key: str
    source: str
    """The folder or file whose name determines its part."""


@dataclass(frozen=True)
class Found:
    """The images that were found, each part in its canonical order."""

    parts: dict[str, list[Sample]]
    class_names: Sequence[str]
    notes: Notes
    left_out: Sequence[str] = field(default_factory=list)
    """Folders or files of test images that were not read."""


class FileSource(Source):
    """Images in the user's own files."""

    flags = frozenset({"val_fraction", "size", "pixel_range", "background"})
    has_image_files = True
    has_imagenet_sizes: ClassVar[bool] = False

    @abstractmethod
    def find(self) -> Found:
        """List the images, their labels and parts."""

    def load(self, config: Data, model: str, resources: "Resources") -> "DataSet":
        from hardness.datasets.samples import from_found

        return from_found(self.find(), config, model, resources, self.has_imagenet_sizes)


class FilePattern(FileSource):
    """Files that match a pattern."""

    @property
    def pattern(self) -> str:
        return self.place

    def check(self, val_fraction: float | None) -> None:
        found = matching(self.pattern)
        hint = "Check the path or pattern."
        if ":" in (form := SOURCES[self.name].syntax) and ":" in self.place:
            hint += f" Columns are named as {self.name}:{form}."
        require(bool(found), "no-matching-files", "No file matches {pattern}.", hint, pattern=self.pattern)
        folder = next((path for path in found if Path(path).is_dir()), None)
        _check_once(found)
        sentence, hint = "{folder} is a folder, not a {kind} file.", "Write {kind}:{pattern}/*.{kind}."
        values = {"folder": folder, "kind": self.name, "pattern": self.pattern}
        require(folder is None, "folder-instead-of-file", sentence, hint, **values)


def _check_once(paths: list[str]) -> None:
    """No file may be listed a second time through a link: its examples would count twice."""
    seen: dict[tuple[int, int], str] = {}
    for path in paths:
        found = Path(path).stat()
        first = seen.setdefault((found.st_dev, found.st_ino), path)
        sentence = "{path} is the same file as {first}."
        hint = "Remove one of them: examples would count twice."
        require(first == path, "same-file-twice", sentence, hint, path=path, first=first)
