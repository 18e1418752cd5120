"""Tars are image folders, or WebDataset's samples, that were never unpacked."""

import io
import tarfile

import pytest
import torch

from hardness import datasets
from hardness.config import Data, Pack
from hardness.errors import UserError
from hardness.stages.pack import pack


def load(pattern, **settings):
    return datasets.load(Data(data=f"tar:{pattern}", **settings), model="mlp")


@pytest.fixture
def tars(image_folder):
    """The image folder in two training tars and one of validation images; -> their pattern."""
    for name, part, classes in (("train-0", "train", "dc"), ("train-1", "train", "e"), ("val", "val", "cde")):
        with tarfile.open(image_folder.parent / f"{name}.tar", "w") as tar:
            for folder in sorted((image_folder / part).iterdir(), reverse=True):
                if folder.name[0] in classes:
                    tar.add(folder, f"{part}/{folder.name}")
    return image_folder.parent / "*.tar"


def test_a_tar_of_class_folders_is_the_folder(tars, image_folder):
    source, found = datasets.load(Data(data=f"imagefolder:{image_folder}"), model="mlp"), load(tars)
    assert found.fingerprint == source.fingerprint
    for part in ("train", "validation"):
        one, other = getattr(source, part), getattr(found, part)
        assert list(one.keys) == list(other.keys)
        for tensor, expected in zip(
            other.__getitems__(range(len(other))), one.__getitems__(range(len(one))), strict=True
        ):
            assert torch.equal(tensor, expected)


def test_tars_are_packed_without_unpacking(tars, image_folder):
    folder = pack(Pack(data=f"tar:{tars}", workers=2, out=image_folder.parent / "p"))
    found = datasets.load(Data(data=f"packed:{folder}"), model="mlp")
    assert torch.equal(found.train.images[range(24)], load(tars).train.images[range(24)])


def write(path, members) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


@pytest.fixture
def image(image_folder) -> bytes:
    return (image_folder / "train/cat/0.png").read_bytes()


def test_webdatasets_samples(tmp_path, image):
    for name in ("train-0", "val-0"):
        members = [
            (f"{i:03d}.{kind}", c) for i in range(6) for kind, c in (("png", image), ("cls", b"%d" % (i % 3)))
        ]
        write(tmp_path / f"{name}.tar", members)
    data = load(tmp_path / "*.tar")
    assert data.class_names == ["0", "1", "2"]
    assert data.train.clean_labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert data.train.keys[0] == "train/000.png"
    assert len(data.validation) == 6


def test_a_share_is_held_out_where_there_is_no_validation_set(tmp_path, image):
    write(tmp_path / "a.tar", [(f"{c}/{i}.png", image) for c in ("x", "y") for i in range(10)])
    with pytest.raises(UserError, match="or pass --val-fraction"):
        load(tmp_path / "a.tar")
    data = load(tmp_path / "a.tar", val_fraction=0.2)
    assert (len(data.train), len(data.validation)) == (16, 4)


def link(path, image):
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo("train/x/a.png")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)


def cut_off(path, image):
    write(path, [("train/x/a.png", image), ("train/x/b.png", bytes(5000))])
    path.write_bytes(path.read_bytes()[: 512 + 1024 + 2000])


def of(*members):
    """A tar of members, whose content None stands for an image."""
    return lambda path, image: write(path, [(name, content or image) for name, content in members])


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (link, r"expected files in .*a\.tar; found train/x/a\.png, a link"),
        (cut_off, r"expected a whole tar .*a\.tar"),
        (of(("../x/a.png", None)), r"names that stay inside .*found \.\./x/a\.png"),
        (of(("/x/a.png", None)), r"names that stay inside .*found /x/a\.png"),
        (of(("a.png", None)), r"a class folder around a\.png"),
        (of(("x/a.txt", b"a")), "expected images in"),
        (of(("a.png", None), ("b.cls", b"1")), r"a label of .*a\.png"),
        (lambda path, image: path.write_bytes(b"no tar" * 200), r"expected a whole tar .*a\.tar"),
    ],
)
def test_a_tar_that_will_not_do_is_refused(tmp_path, image, make, told):
    make(tmp_path / "a.tar", image)
    with pytest.raises(UserError, match=told):
        load(tmp_path / "a.tar")


def test_no_tars(tmp_path):
    with pytest.raises(UserError, match="found none there; check the path or pattern"):
        Data(data=f"tar:{tmp_path}/*.tar")
