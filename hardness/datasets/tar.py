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
from hardness.parts import (
    PARTS,
    TEST,
    TRAIN,
    VALIDATION,
    held_out,
    innermost_part,
    parts_in_name,
    without_part,
)
from hardness.paths import is_hidden, matching
from hardness.resources import Resources

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


def load(place: str, config: Data, *, model: str, resources: Resources) -> DataSet:
    """All tars that match the pattern ``place``, in the order of their names."""
    notes, tars = Notes(), matching(place)
    members = _all_members(tars, notes)
    images, cls_files, json_files, others = _by_kind(members)
    if not images:
        raise UserError(f"images in {place}", "none", f"put files there ending in {' '.join(EXTENSIONS)}")
    shards, left_out = _names_below(tars), []
    needed = images
    if cls_files or json_files:
        # The labels of a test set are often missing.
        needed, left_out = _without_test(_parts(images, shards, None))
        unused = {image.sample for image in images} - {image.sample for image in needed}
        cls_files, json_files = (
            [each for each in files if each.sample not in unused] for files in (cls_files, json_files)
        )
    labels = read_labels(needed, cls_files, json_files, notes)
    if labels is None:
        depth = _depth_of_classes(images, shards, notes)
        parts = _parts(images, shards, depth)
        labels, left_out = _labels_by_folder(parts, depth, notes)
    else:
        depth = _depth_of_parts(needed)
        parts = _parts(needed, shards, None)
    note_others(others, notes)
    class_names, number_of = number_classes(set(labels.values()), notes)

    keys = _keys(labels, parts, shards, depth)
    found: dict[str, list[Sample]] = {part: [] for part in PARTS}
    # In the order of an image folder of the same files.
    for image in sorted(labels, key=lambda image: (number_of[labels[image]], *posixpath.split(keys[image]))):
        part, source = parts[image]
        found[part].append(Sample(image, number_of[labels[image]], keys[image], source))
    settings = {"model": model, "resources": resources, "left_out": left_out}
    return from_samples(found, class_names, config, notes, **settings)


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


def _depth_of_classes(images: Sequence[TarMember], shards: Mapping[str, str], notes: Notes) -> int:
    """How many folders around the class folders all tars share, apart from the words that say the part."""
    depth, says_part = 0, False
    tars_say = any(len(parts_in_name(word)) == 1 for name in shards.values() for word in name.split("/"))
    distinct = {(image.tar, image.folders) for image in images}
    while True:
        here = [(tar, folders) for tar, folders in distinct if len(folders) > depth]
        around = {folders[depth] for _, folders in here if len(folders) > depth + 1}
        # Test images may lack a class folder; a stray image beside the class folders says nothing.
        last = {folders[depth] for _, folders in here} - around
        if not around or not all(map(_is_test, last)):
            return depth
        if len({_root_form(folders[depth], tar) for tar, folders in here}) > 1:
            return depth
        if len({*around, *last}) > 1:
            names: dict[tuple, set[str]] = {}
            for tar, folders in here:
                names.setdefault((tar, folders[:depth]), set()).add(folders[depth])
            # Where the part is said already, names that differ are those of classes.
            is_said = says_part or (tars_say and any(map(without_part, around)))
            if is_said and max(map(len, names.values())) > 1:
                return depth
            says_part = True
            if len({tuple(without_part(name)) for name in around}) > 1:
                notes.say(
                    f"root folders called as their tars, which are no classes: {first_of(sorted(around))}"
                )
        depth += 1


def _is_test(folder: str) -> bool:
    return parts_in_name(folder) == {TEST}


def _root_form(folder: str, tar: str) -> tuple[str, ...]:
    """What of a root folder's name all tars must share; one that is called as its tar may have a number."""
    words = without_part(folder)
    return tuple(word for word in words if not (folder == Path(tar).stem and word.isdigit()))


def _part_of_shard(name: str) -> str | None:
    return innermost_part(name.removesuffix(".tar").split("/"))


def _without_test(parts: Mapping[TarMember, tuple[str, str]]) -> tuple[list[TarMember], list[str]]:
    """(images, what is left out): without test images where there are validation images."""
    if held_out(part for part, _ in parts.values()) != VALIDATION:
        return list(parts), []
    left_out = dict.fromkeys(source for part, source in parts.values() if part == TEST)
    return [image for image, (part, _) in parts.items() if part != TEST], list(left_out)


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
            return inner, f"{shard}:{'/'.join(folders)}"
        return _part_of_shard(shard) or TRAIN, shard

    return {image: of(image.tar, image.folders[shared:depth]) for image in images}


def _names_below(tars: Sequence[str]) -> dict[str, str]:
    """Tar -> its path below the folder that all share."""
    root = os.path.commonpath([Path(tar).parent for tar in tars])
    return {tar: Path(tar).relative_to(root).as_posix() for tar in tars}


def _labels_by_folder(
    parts: Mapping[TarMember, tuple[str, str]], depth: int, notes: Notes
) -> tuple[dict[TarMember, Label], list[str]]:
    """(labels, test files that are left out).

    Raises ``UserError`` where no image of a part has a class folder, and where the folders may be parts.
    """
    labels: dict[TarMember, Label] = {}
    strays, left_out = [], {}
    for image in parts:
        if len(image.folders) > depth:
            labels[image] = image.folders[depth]
        else:
            strays.append(image)
    there = {parts[image][0] for image in labels}
    for image in strays:
        part, source = parts[image]
        if part == TEST and VALIDATION in there:
            left_out[source] = True
        elif part not in there:
            do = "put the images in class folders, or a .cls file beside each"
            raise UserError(f"a class folder around {image.name} in {image.tar}", "none", do)
    if outside := [image for image in strays if parts[image][1] not in left_out]:
        notes.warn(f"images left out, as they are in no class folder: {first_of(outside)}")
    bare = {name: parts_in_name(name) for name in {*labels.values()} if not without_part(name)}
    if there == {TRAIN} and len(set().union(*bare.values())) > 1:
        found = ", ".join(sorted({*labels.values()})[:5])
        do = "rename the folders: they may be classes, or training and validation images"
        raise UserError("class folders in the tars", found, do)
    return labels, list(left_out)


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
        keys = {
            image: f"{parts[image][0]}/{shards[image.tar].removesuffix('.tar')}/{name}"
            for image, name in below.items()
        }
    return keys
