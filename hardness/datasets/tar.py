"""Tar files of images, read where they lie: [train|val]/CLASS/*.jpg, or WebDataset's KEY.jpg and KEY.cls.

Which are for training and for validation, ``hardness.parts`` says; data/README.md has all the rules.
"""

import functools
import itertools
import os
import posixpath
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from hardness.config import Data
from hardness.console import progress
from hardness.datasets.base import DataSet, Notes
from hardness.datasets.decoding import EXTENSIONS
from hardness.datasets.found import Label, first_of, note_hidden, note_others, number_classes
from hardness.datasets.samples import Sample, from_samples
from hardness.datasets.webdataset import read_labels, sample_of
from hardness.errors import UserError
from hardness.parts import PARTS, TEST, TRAIN, innermost_part, parts_in_name, without_part
from hardness.paths import is_hidden, matching

_BLOCK = 512


class TarMember(NamedTuple):
    """A file inside a tar."""

    tar: str
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.tar}:{self.name}"

    @property
    def folders(self) -> tuple[str, ...]:
        return tuple(self.name.split("/")[:-1])

    @property
    def sample(self) -> tuple[str, str]:
        return sample_of(self.tar, self.name)

    def read(self, size: int = -1) -> bytes:
        with open(self.tar, "rb") as file:  # noqa: PTH123
            file.seek(self.offset)
            return file.read(self.size if size < 0 else min(size, self.size))


def load(place: str, config: Data, *, model: str, workers: int) -> DataSet:
    """All tars that match the pattern ``place``, in the order of their names."""
    notes, tars = Notes(), matching(place)
    members = _all_members(tars, notes)
    images, cls_files, json_files, others = _by_kind(members)
    if not images:
        raise UserError(f"images in {place}", "none", f"put files there ending in {' '.join(EXTENSIONS)}")
    labels = read_labels(images, cls_files, json_files, notes)
    shards = _names_below(tars)
    if labels is None:
        depth = _depth_of_classes(images)
        parts = _parts(images, shards, depth)
        labels = _labels_by_folder(parts, depth)
    else:
        depth = _depth_of_parts(images)
        parts = _parts(images, shards, None)
    note_others(others, notes)
    class_names, number_of = number_classes(set(labels.values()), notes)

    keys = _keys(labels, parts, shards, depth)
    found: dict[str, list[Sample]] = {part: [] for part in PARTS}
    # In the order of an image folder of the same files.
    for image in sorted(labels, key=lambda image: (number_of[labels[image]], *posixpath.split(keys[image]))):
        part, source = parts[image]
        found[part].append(Sample(image, number_of[labels[image]], keys[image], source))
    return from_samples(found, class_names, config, notes, model=model, workers=workers)


def _all_members(tars: Sequence[str], notes: Notes) -> list[TarMember]:
    """Their files but for hidden ones; of equal names in a tar the last, as `tar -x` leaves it."""
    found, hidden, repeated, endless = [], [], [], []
    for tar in progress(tars, len(tars), "reading tars"):
        last: dict[str, TarMember] = {}
        for member in _members(tar, hidden, endless):
            if member.name in last:
                repeated.append(member)
            last[member.name] = member
        found += last.values()
    note_hidden(hidden, notes)
    if endless:
        notes.warn(f"tars without an end-of-archive mark, which may be cut off: {first_of(endless)}")
    if repeated:
        notes.say(f"duplicate names in a tar, of which the last counts: {first_of(repeated)}")
    return found


def _members(tar: str, hidden: list[str], endless: list[str]) -> list[TarMember]:
    """Raises ``UserError`` where the tar is cut off or damaged, for a link, for a name that climbs out."""
    size, found = Path(tar).stat().st_size, []
    try:
        with tarfile.open(tar, "r:") as archive:
            for info in archive:
                # It would keep them all.
                archive.members = []
                name = posixpath.normpath(info.name)
                if unseen := [each for each in name.split("/") if each != ".." and is_hidden(each)]:
                    hidden.append(unseen[0])
                elif not info.isdir():
                    _check_member(tar, info, size)
                    found.append(TarMember(tar, name, info.offset_data, info.size))
            end = archive.offset
    except UserError:
        raise
    # A damaged file makes tarfile raise whatever it meets.
    except Exception as error:
        found, do = (
            (str(error) or type(error).__name__).splitlines()[0],
            "copy it again; tars are not compressed",
        )
        raise UserError(f"a whole tar {tar}", found, do) from error
    if end >= size:
        endless.append(tar)
    else:
        _check_end(tar, end)
    return found


def _check_member(tar: str, info: tarfile.TarInfo, size: int) -> None:
    if not info.isreg() or info.issparse():
        do = "pack it again, links followed: tar --dereference --hard-dereference"
        raise UserError(f"files in {tar}", f"{info.name}, a link or special file", do)
    if info.name.startswith("/") or ".." in info.name.split("/"):
        raise UserError(f"names that stay inside {tar}", info.name, "pack it again")
    if info.offset_data + info.size > size:
        raise UserError(f"a whole tar {tar}", f"the end in {info.name}", "copy it again")


def _check_end(tar: str, end: int) -> None:
    """tarfile takes a damaged header for the end, and what follows an end for nothing."""
    with Path(tar).open("rb") as file:
        file.seek(end)
        while block := file.read(2048 * _BLOCK):
            if any(block):
                do = "copy it again; join tars with tar -A"
                raise UserError(f"a whole tar {tar}", f"something else from byte {end} on", do)


def _by_kind(
    members: Sequence[TarMember],
) -> tuple[list[TarMember], list[TarMember], list[TarMember], list[str]]:
    """Images, .cls files, the .json files beside images, and the names of all others."""
    images = [member for member in members if member.name.lower().endswith(EXTENSIONS)]
    cls_files = [member for member in members if member.name.lower().endswith(".cls")]
    with_image = {image.sample for image in images}
    json_files = [
        member for member in members if member.name.lower().endswith(".json") and member.sample in with_image
    ]
    known = {*images, *cls_files, *json_files}
    return images, cls_files, json_files, [member.name for member in members if member not in known]


def _depth_of_parts(images: Sequence[TarMember]) -> int:
    """How many of the outer folders say nothing but the part of each image."""
    return _num_levels(images, lambda names: not any(map(without_part, names)))


def _num_levels(images: Sequence[TarMember], holds: Callable[[tuple[str, ...]], bool]) -> int:
    """Of how many outer folders something holds: of their different names, from the outermost on."""
    levels = zip(*{image.folders for image in images}, strict=False)
    return sum(1 for _ in itertools.takewhile(holds, levels))


def _depth_of_classes(images: Sequence[TarMember]) -> int:
    """How many folders around the class folders all tars share, apart from the words that say the part."""
    distinct = {(image.tar, image.folders) for image in images}
    depth, folders = 0, [(Path(tar).stem, each) for tar, each in distinct]
    while True:
        # Test images may lack a class folder.
        folders = [each for each in folders if not (len(each[1]) == depth + 1 and _is_test(each[1][depth]))]
        if not folders or any(len(each) <= depth + 1 for _, each in folders):
            return depth
        if len({_root_form(each[depth], stem) for stem, each in folders}) > 1:
            return depth
        depth += 1


def _is_test(folder: str) -> bool:
    return parts_in_name(folder) == {TEST}


def _root_form(folder: str, stem: str) -> tuple[str, ...]:
    """What of a root folder's name all tars must share; one that is called as its tar may have a number."""
    words = without_part(folder)
    return tuple(word for word in words if not (folder == stem and word.isdigit()))


def _parts(
    images: Sequence[TarMember], shards: Mapping[str, str], depth: int | None
) -> dict[TarMember, tuple[str, str]]:
    """The part of each image, and the file or folder that says so.

    ``depth``: which of the folders around an image is its class; None: none is.
    """
    shared = _num_levels(images, lambda names: len(set(names)) == 1)

    @functools.cache
    def of(tar: str, folders: tuple[str, ...]) -> tuple[str, str]:
        shard = shards[tar]
        if inner := innermost_part(folders):
            return inner, f"{shard}.tar:{'/'.join(folders)}"
        return innermost_part(shard.split("/")) or TRAIN, f"{shard}.tar"

    return {image: of(image.tar, image.folders[shared:depth]) for image in images}


def _names_below(tars: Sequence[str]) -> dict[str, str]:
    """Tar -> its path below the folder that all share, less the extension."""
    root = os.path.commonpath([Path(tar).parent for tar in tars])
    return {tar: Path(tar).relative_to(root).with_suffix("").as_posix() for tar in tars}


def _labels_by_folder(parts: dict[TarMember, tuple[str, str]], depth: int) -> dict[TarMember, Label]:
    """Raises ``UserError`` for an image without a class folder, unless it is of a test set beside another."""
    labels, has_others = {}, any(part not in (TRAIN, TEST) for part, _ in parts.values())
    for image, (part, _) in parts.items():
        if len(image.folders) > depth:
            labels[image] = image.folders[depth]
        elif part != TEST or not has_others:
            do = "put the images in class folders, or a .cls file beside each"
            raise UserError(f"a class folder around {image.name} in {image.tar}", "none", do)
    return labels


def _keys(
    labels: Iterable[TarMember],
    parts: Mapping[TarMember, tuple[str, str]],
    shards: Mapping[str, str],
    depth: int,
) -> dict[TarMember, str]:
    """As an image folder has them; below the name of their tar where images of several have the same."""
    below = {image: "/".join(image.name.split("/")[depth:]) for image in labels}
    keys = {image: f"{parts[image][0]}/{name}" for image, name in below.items()}
    if len(set(keys.values())) < len(keys):
        keys = {image: f"{parts[image][0]}/{shards[image.tar]}/{name}" for image, name in below.items()}
    return keys
