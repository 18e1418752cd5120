"""Tar files of images, read without unpacking: [train|val]/CLASS/*.jpg, or WebDataset's KEY.jpg and KEY.cls.

``hardness.parts`` determines which are for training and for validation; data/README.md has all the rules.
"""

import functools
import itertools
import os
import posixpath
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from hardness.console import progress
from hardness.datasets.found import (
    EXTENSIONS,
    Label,
    Notes,
    first_of,
    no_images,
    note_hidden,
    note_others,
    number_classes,
)
from hardness.datasets.source import FilePattern, Found, Sample
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
from hardness.registry import SOURCES

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


@SOURCES.register("tar", syntax="PATTERN")
class TarFiles(FilePattern):
    """Tar files of class folders or of WebDataset samples, in the order of their names."""

    def find(self) -> Found:
        notes, tars = Notes(), matching(self.pattern)
        members = _all_members(tars, notes)
        images, cls_files, json_files, others = _by_kind(members)
        if not images:
            raise no_images(self.pattern, f"Add files ending in {' '.join(EXTENSIONS)}.")
        shards, left_out = _names_below(tars), []
        needed = images
        if cls_files or json_files:
            # Test sets often have no labels.
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
        # The same order as in an image folder of the same files.
        for image in sorted(
            labels, key=lambda image: (number_of[labels[image]], *posixpath.split(keys[image]))
        ):
            part, source = parts[image]
            found[part].append(Sample(image, number_of[labels[image]], keys[image], source))
        return Found(found, class_names, notes, left_out)


def _all_members(tars: Sequence[str], notes: Notes) -> list[TarMember]:
    """All files that are not hidden; if a tar repeats a name, the last one, like `tar -x`."""
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
        notes.warn(f"tars without an end-of-archive marker, possibly truncated: {first_of(endless)}")
    if repeated:
        notes.say(f"repeated names in a tar (the last one is used): {first_of(repeated)}")
    return found


def _members(tar: str, hidden: list[str], endless: list[str]) -> list[TarMember]:
    """Raises ``UserError`` for a damaged tar, a link, and a path outside the archive."""
    size, found = Path(tar).stat().st_size, []
    try:
        with tarfile.open(tar, "r:") as archive:
            for info in archive:
                # tarfile would keep all of them.
                archive.members = []
                name = posixpath.normpath(info.name)
                if skipped := [each for each in name.split("/") if each != ".." and is_hidden(each)]:
                    hidden.append(skipped[0])
                elif not info.isdir():
                    _check_member(tar, info, size)
                    found.append(TarMember(tar, name, info.offset_data, info.size))
            end = archive.offset
    except UserError:
        raise
    # A damaged file can make tarfile raise anything.
    except Exception as error:
        raise _damaged(tar, (str(error) or type(error).__name__).splitlines()[0]) from error
    if end >= size:
        endless.append(tar)
    else:
        _check_end(tar, end)
    return found


def _damaged(tar: str, reason: str) -> UserError:
    sentence = "{path} is not a complete, uncompressed tar ({reason})."
    hint = "Copy it again. Decompress it if it is compressed; join tars with tar -A."
    return UserError("damaged-tar", sentence, hint, path=tar, reason=reason)


def _check_member(tar: str, info: tarfile.TarInfo, size: int) -> None:
    values = {"path": tar, "name": info.name}
    if not info.isreg() or info.issparse():
        sentence = "{path} contains {name}, a link or special file."
        hint = "Create the tar again with tar --dereference --hard-dereference."
        raise UserError("link-in-tar", sentence, hint, **values)
    if info.name.startswith("/") or ".." in info.name.split("/"):
        sentence, hint = "{path} contains {name}, a path outside the archive.", "Create the tar again."
        raise UserError("path-outside-tar", sentence, hint, **values)
    if info.offset_data + info.size > size:
        raise _damaged(tar, f"it ends within {info.name}")


def _check_end(tar: str, end: int) -> None:
    """tarfile mistakes a damaged header for the end, and ignores anything after the end."""
    with Path(tar).open("rb") as file:
        file.seek(end)
        while block := file.read(2048 * _BLOCK):
            if any(block):
                raise _damaged(tar, f"there is data after its end, byte {end}")


def _by_kind(
    members: Sequence[TarMember],
) -> tuple[list[TarMember], list[TarMember], list[TarMember], list[str]]:
    """Images, .cls files, the .json files next to images, and the names of all others."""
    images = [member for member in members if member.name.lower().endswith(EXTENSIONS)]
    cls_files = [member for member in members if member.name.lower().endswith(".cls")]
    with_image = {image.sample for image in images}
    json_files = [
        member for member in members if member.name.lower().endswith(".json") and member.sample in with_image
    ]
    known = {*images, *cls_files, *json_files}
    return images, cls_files, json_files, [member.name for member in members if member not in known]


def _depth_of_parts(images: Sequence[TarMember]) -> int:
    """The number of outer folders whose names contain nothing but the part."""
    return _num_levels(images, lambda names: not any(map(without_part, names)))


def _num_levels(images: Sequence[TarMember], holds: Callable[[tuple[str, ...]], bool]) -> int:
    """The number of outer folder levels, from the outermost on, whose set of names satisfies ``holds``."""
    levels = zip(*{image.folders for image in images}, strict=False)
    return sum(1 for _ in itertools.takewhile(holds, levels))


def _depth_of_classes(images: Sequence[TarMember], shards: Mapping[str, str], notes: Notes) -> int:
    """The number of folders around the class folders: those that all tars share except for the part."""
    depth, has_part = 0, False
    in_tars = any(len(parts_in_name(word)) == 1 for name in shards.values() for word in name.split("/"))
    distinct = {(image.tar, image.folders) for image in images}
    while True:
        here = [(tar, folders) for tar, folders in distinct if len(folders) > depth]
        around = {folders[depth] for _, folders in here if len(folders) > depth + 1}
        # Test images may have no class folder; a stray image next to the class folders does not matter.
        last = {folders[depth] for _, folders in here} - around
        if not around or not all(map(_is_test, last)):
            return depth
        if len({_root_form(folders[depth], tar) for tar, folders in here}) > 1:
            return depth
        if len({*around, *last}) > 1:
            names: dict[tuple, set[str]] = {}
            for tar, folders in here:
                names.setdefault((tar, folders[:depth]), set()).add(folders[depth])
            # If the part is known already, different names are those of classes.
            is_known = has_part or (in_tars and any(map(without_part, around)))
            if is_known and max(map(len, names.values())) > 1:
                return depth
            has_part = True
            if len({tuple(without_part(name)) for name in around}) > 1:
                notes.say(f"root folders named like their tars, not classes: {first_of(sorted(around))}")
        depth += 1


def _is_test(folder: str) -> bool:
    return parts_in_name(folder) == {TEST}


def _root_form(folder: str, tar: str) -> tuple[str, ...]:
    """The words of a root folder's name that all tars must share: no number if it is named like its tar."""
    words = without_part(folder)
    return tuple(word for word in words if not (folder == Path(tar).stem and word.isdigit()))


def _part_of_shard(name: str) -> str | None:
    return innermost_part(name.removesuffix(".tar").split("/"))


def _without_test(parts: Mapping[TarMember, tuple[str, str]]) -> tuple[list[TarMember], list[str]]:
    """(images, sources that are not used): without test images if there are validation images."""
    if held_out(part for part, _ in parts.values()) != VALIDATION:
        return list(parts), []
    left_out = dict.fromkeys(source for part, source in parts.values() if part == TEST)
    return [image for image, (part, _) in parts.items() if part != TEST], list(left_out)


def _parts(
    images: Sequence[TarMember], shards: Mapping[str, str], depth: int | None
) -> dict[TarMember, tuple[str, str]]:
    """The part of each image, and the file or folder that determines it.

    ``depth``: the position of the class among the folders around an image; None: no folder is a class.
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
    """Tar -> its path below the folder that contains all of them."""
    root = os.path.commonpath([Path(tar).parent for tar in tars])
    return {tar: Path(tar).relative_to(root).as_posix() for tar in tars}


def _labels_by_folder(
    parts: Mapping[TarMember, tuple[str, str]], depth: int, notes: Notes
) -> tuple[dict[TarMember, Label], list[str]]:
    """(labels, test files that are not used).

    Raises ``UserError`` if no image of a part has a class folder, and if the folders may be parts.
    """
    labels: dict[TarMember, Label] = {}
    strays, left_out = [], {}
    for image in parts:
        if len(image.folders) > depth:
            labels[image] = image.folders[depth]
        else:
            strays.append(image)
    labeled = {parts[image][0] for image in labels}
    for image in strays:
        part, source = parts[image]
        if part == TEST and VALIDATION in labeled:
            left_out[source] = True
        elif part not in labeled:
            sentence = "{path} is in no class folder, and there are no .cls files with labels."
            hint = "Put the images in class folders, or add a .cls file for each."
            raise UserError("no-class-folder", sentence, hint, path=str(image))
    if outside := [image for image in strays if parts[image][1] not in left_out]:
        notes.warn(f"skipped images outside class folders: {first_of(outside)}")
    bare = {name: parts_in_name(name) for name in {*labels.values()} if not without_part(name)}
    if labeled == {TRAIN} and len(set().union(*bare.values())) > 1:
        sentence = "The folders in the tars may be classes, or training and validation images: {folders}."
        folders = ", ".join(sorted({*labels.values()})[:5])
        raise UserError("classes-or-parts", sentence, "Rename the folders.", folders=folders)
    return labels, list(left_out)


def _keys(
    labels: Iterable[TarMember],
    parts: Mapping[TarMember, tuple[str, str]],
    shards: Mapping[str, str],
    depth: int,
) -> dict[TarMember, str]:
    """As in an image folder; with the name of the tar if images of several tars have the same key."""
    below = {image: "/".join(image.name.split("/")[depth:]) for image in labels}
    keys = {image: f"{parts[image][0]}/{name}" for image, name in below.items()}
    if len(set(keys.values())) < len(keys):
        keys = {
            image: f"{parts[image][0]}/{shards[image.tar].removesuffix('.tar')}/{name}"
            for image, name in below.items()
        }
    return keys
