"""Random trees of files, as folders and as tars: ids, keys, labels and parts equal a simple model."""

import re
import unicodedata
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from hardness import datasets
from hardness.config import Data
from tests.datasets.archives import encoded, write_tar

IMAGE = encoded(size=(4, 4))
LETTERS = st.sampled_from("ab 01._-é猫Ω")
NAMES = st.text(LETTERS, min_size=1, max_size=6).map(str.strip).filter(lambda name: name.strip("."))
CLASSES = st.one_of(
    NAMES.filter(lambda name: not name.startswith(".")),
    st.sampled_from(["train", "val", "test", "test tube", "dev set", "training"]),
)
EXTENSIONS = st.sampled_from([".png", ".PNG", ".png", ".txt", ".heic", ""])
HIDDEN = st.sampled_from([".hidden", "._a.png", "Thumbs.db", "@eaDir", "__MACOSX", ".ipynb_checkpoints"])


class Made(NamedTuple):
    """A file of a tree, below the folder of its part."""

    part: str
    folders: tuple[str, ...]
    """The class, and the folders below it."""
    name: str

    @property
    def path(self) -> str:
        return "/".join((self.part, *self.folders, self.name))

    @property
    def is_image(self) -> bool:
        return self.name.lower().endswith(".png") and not self.is_hidden

    @property
    def is_hidden(self) -> bool:
        hidden = ("thumbs.db", "@eadir", "__macosx")
        return any(each.startswith(".") or each.lower() in hidden for each in (*self.folders, self.name))


@st.composite
def trees(draw) -> list[Made]:
    """Each class has an image in each part; no two names are equal after normalization."""
    classes = draw(st.lists(CLASSES, min_size=2, max_size=4, unique_by=lambda name: _plain(name)))
    files = [Made(part, (name,), "first.png") for part in ("train", "val") for name in classes]
    for _ in range(draw(st.integers(0, 12))):
        folders = (draw(st.sampled_from(classes)), *draw(st.lists(st.one_of(NAMES, HIDDEN), max_size=2)))
        name = draw(st.one_of(st.tuples(NAMES, EXTENSIONS).map("".join), HIDDEN))
        files.append(Made(draw(st.sampled_from(["train", "val"])), folders, name))
    paths = {_plain(file.path): file for file in files}
    # A name cannot be both a file and a folder.
    for path in paths:
        assume(not any(other.startswith(f"{path}/") for other in paths))
    return draw(st.permutations(list(paths.values())))


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def expected(files: list[Made]) -> dict[str, list[tuple[str, str]]]:
    """Part -> (key, class) of each image, in the order of ids: by class, folder, name."""
    found = {}
    for part in ("train", "val"):
        images = [file for file in files if file.part == part and file.is_image]
        images.sort(key=lambda file: (file.folders[0], "/".join((part, *file.folders)), file.name))
        found[part] = [(file.path, file.folders[0]) for file in images]
    return found


def found_in(data) -> dict[str, list[tuple[str, str]]]:
    return {
        part: [
            (key, data.class_names[label])
            for key, label in zip(images.keys, images.clean_labels.tolist(), strict=True)
        ]
        for part, images in (("train", data.train), ("val", data.validation))
    }


def counted(data) -> tuple[int, int]:
    """(hidden, others) according to the notes."""

    def count(notes, of):
        return sum(int(re.search(r": ([\d,]+) \(", note)[1]) for note in notes if of in note)

    return count(data.notes.lines, "hidden files"), count(data.notes.warnings, "not images")


_LIMITS = settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow], deadline=None)


@_LIMITS
@given(files=trees(), linked=st.sets(st.integers(0, 11)))
def test_a_folder(files, linked):
    with TemporaryDirectory() as place:
        root, elsewhere = Path(place, "root"), Path(place, "elsewhere")
        elsewhere.mkdir()
        for number, file in enumerate(files):
            path = root / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            if number in linked:
                (elsewhere / str(number)).write_bytes(IMAGE)
                path.symlink_to(elsewhere / str(number))
            else:
                path.write_bytes(IMAGE)
        data = datasets.load(Data(data=f"imagefolder:{root}"), verbose=False)
    assert found_in(data) == expected(files)
    others = sum(not (file.is_image or file.is_hidden) for file in files)
    assert counted(data)[1] == others


@_LIMITS
@given(
    files=trees(),
    root=st.sampled_from(["", "pets_", "a b/", "x.y/"]),
    num_tars=st.integers(1, 3),
    by_part=st.booleans(),
)
def test_tars_of_class_folders(files, root, num_tars, by_part):
    """The same files in tars, below a root folder that all share or that differs only by the part."""
    members = [(root + file.path, IMAGE) for file in files]
    with TemporaryDirectory() as place:
        for number in range(num_tars):
            here = members[number::num_tars]
            if by_part:
                for part in ("train", "val"):
                    inside = [each for each in here if each[0].startswith(f"{root}{part}/")]
                    write_tar(Path(place, f"{part}-{number}.tar"), inside)
            else:
                write_tar(Path(place, f"{number}.tar"), here)
        data = datasets.load(Data(data=f"tar:{place}/*.tar"), verbose=False)
    assert found_in(data) == expected(files)
    is_hidden = [file.is_hidden for file in files]
    assert counted(data) == (
        sum(is_hidden),
        sum(not (file.is_image or file.is_hidden) for file in files),
    )


@_LIMITS
@given(
    keys=st.lists(NAMES, min_size=2, max_size=8, unique_by=_plain),
    labels=st.lists(st.integers(0, 2), min_size=8, max_size=8),
    spellings=st.lists(st.sampled_from(["{}", "0{}", "{}\n", " {} "]), min_size=8, max_size=8),
    companions=st.sets(st.integers(0, 7)),
    folder=st.sampled_from(["", "00000/", "a.b/"]),
)
def test_tars_of_samples(keys, labels, spellings, companions, folder):
    """KEY.png and KEY.cls, some with KEY.mask.png next to them."""
    # All keys have labels, also those that extend another key.
    labels = [0, 1, *labels[2:]]
    members, names = [], {}
    for number, key in enumerate(keys):
        members.append((f"{folder}{key}.png", IMAGE))
        members.append((f"{folder}{key}.cls", spellings[number].format(labels[number]).encode()))
        names[f"train/{folder}{key}.png"] = str(labels[number])
        if number in companions:
            members.append((f"{folder}{key}.mask.png", IMAGE))
    visible = {
        key: label for key, label in names.items() if not key.removeprefix(f"train/{folder}").startswith(".")
    }
    assume(len(set(visible.values())) > 1)
    with TemporaryDirectory() as place:
        for part in ("train", "val"):
            write_tar(Path(place, f"{part}.tar"), members)
        data = datasets.load(Data(data=f"tar:{place}/*.tar"), verbose=False)
    assert dict(found_in(data)["train"]) == visible
    assert Counter(key.removeprefix("val/") for key, _ in found_in(data)["val"]) == Counter(
        key.removeprefix("train/") for key in visible
    )
