"""Tar files of images, read where they lie: [train|val]/CLASS/*.jpg, or WebDataset's NAME.jpg and NAME.cls.

What lies under val/, or in a tar whose name begins with val, is the validation set.
"""

import glob
import posixpath
import tarfile
from pathlib import Path
from typing import NamedTuple

from torchvision.datasets.folder import IMG_EXTENSIONS

from hardness.config import Data
from hardness.datasets.base import DataSet
from hardness.datasets.samples import Sample, cut, from_samples
from hardness.errors import UserError

_PARTS = ("train", "val")
_MOST_CLASSES = 1_000_000


class TarMember(NamedTuple):
    """A file inside a tar."""

    tar: str
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.tar}:{self.name}"

    def read(self) -> bytes:
        with open(self.tar, "rb") as file:  # noqa: PTH123
            file.seek(self.offset)
            return file.read(self.size)


def load(place: str, config: Data, *, model: str, workers: int) -> DataSet:
    """All tars that match the pattern ``place``, in the order of their names."""
    members = [member for tar in sorted(glob.glob(place)) for member in _members(tar)]  # noqa: PTH207
    labels = {_stem(member): member for member in members if member.name.endswith(".cls")}
    images = [member for member in members if member.name.lower().endswith(IMG_EXTENSIONS)]
    if not images:
        raise UserError(f"images in {place}", "none", f"put files there ending in {' '.join(IMG_EXTENSIONS)}")
    if labels:
        classes = {member: _read_label(member, labels) for member in images}
        class_names = [str(number) for number in range(max(map(int, classes.values())) + 1)]
    else:
        classes = {member: _folder_of(member) for member in images}
        class_names = sorted(set(classes.values()))
    number_of = {name: number for number, name in enumerate(class_names)}
    parts: dict[str, list[Sample]] = {part: [] for part in _PARTS}
    # In the order of an image folder of the same files.
    for member in sorted(
        images, key=lambda member: (number_of[classes[member]], *posixpath.split(_key(member)))
    ):
        parts[_part(member)].append((member, number_of[classes[member]]))
    train, validation = cut(
        parts["train"], parts["val"], config.val_fraction, place, "under val/ or in val*.tar"
    )
    return from_samples(train, validation, class_names, _key, config, model=model, workers=workers)


def _members(tar: str) -> list[TarMember]:
    """Its regular files. Raises ``UserError`` where it is cut off, for a link, for a name that climbs out."""
    size, found = Path(tar).stat().st_size, []
    try:
        with tarfile.open(tar, "r:") as archive:
            for info in archive:
                if info.isdir():
                    continue
                if not info.isreg():
                    raise UserError(f"files in {tar}", f"{info.name}, a link or the like", "pack it anew")
                if info.name.startswith("/") or ".." in info.name.split("/"):
                    raise UserError(f"names that stay inside {tar}", info.name, "pack it anew")
                if info.offset_data + info.size > size:
                    raise UserError(f"a whole tar {tar}", f"the end in {info.name}", "copy it again")
                found.append(TarMember(tar, posixpath.normpath(info.name), info.offset_data, info.size))
    except (tarfile.TarError, EOFError, OSError) as error:
        do = "copy it again; tars are not compressed"
        raise UserError(f"a whole tar {tar}", str(error).splitlines()[0], do) from error
    return found


def _part(member: TarMember) -> str:
    first = member.name.partition("/")[0]
    return first if first in _PARTS else "val" if Path(member.tar).name.startswith("val") else "train"


def _key(member: TarMember) -> str:
    """As an image folder has it."""
    is_complete = member.name.partition("/")[0] in _PARTS
    return member.name if is_complete else f"{_part(member)}/{member.name}"


def _folder_of(member: TarMember) -> str:
    folders = [name for name in member.name.split("/")[:-1] if name not in _PARTS]
    if not folders:
        do = "put the images in class folders, or a .cls file beside each"
        raise UserError(f"a class folder around {member.name} in {member.tar}", "none", do)
    return folders[0]


def _stem(member: TarMember) -> tuple[str, str]:
    """What a sample's files have in common: up to the first dot after the folders (WebDataset)."""
    folder, name = posixpath.split(member.name)
    return member.tar, posixpath.join(folder, name.partition(".")[0])


def _read_label(member: TarMember, labels: dict[tuple[str, str], TarMember]) -> str:
    label = labels.get(_stem(member))
    if label is None:
        raise UserError(f"a .cls file beside {member}", "none", "add it")
    text = label.read().decode(errors="replace").strip()
    if not (text.isdecimal() and int(text) < _MOST_CLASSES):
        found = repr(text[:20])
        raise UserError(f"a class index below {_MOST_CLASSES:,} in {label}", found, "write such a number")
    return text
