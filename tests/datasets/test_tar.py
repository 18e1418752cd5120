"""Tars of image folders and of WebDataset samples, read without unpacking."""

import tarfile

import pytest
import torch

from hardness import datasets
from hardness.config import Data
from hardness.stages.pack import Pack, pack
from tests.conftest import refused
from tests.datasets.archives import encoded
from tests.datasets.archives import write_tar as write


def load(pattern, **settings):
    return datasets.load(Data(data=f"tar:{pattern}", **settings), model="mlp")


@pytest.fixture
def tars(image_folder):
    """The image folder as two training tars and a validation tar; their pattern."""
    for name, part, classes in (("train-0", "train", "dc"), ("train-1", "train", "e"), ("val", "val", "cde")):
        with tarfile.open(image_folder.parent / f"{name}.tar", "w") as tar:
            for folder in sorted((image_folder / part).iterdir(), reverse=True):
                if folder.name[0] in classes:
                    tar.add(folder, f"{part}/{folder.name}")
    return image_folder.parent / "*.tar"


def test_tars_of_class_folders_equal_the_folder(tars, image_folder):
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
    assert torch.equal(found.train.inputs[range(24)], load(tars).train.inputs[range(24)])


@pytest.fixture
def image(image_folder) -> bytes:
    return (image_folder / "train/cat/0.png").read_bytes()


def test_webdataset_samples(tmp_path, image):
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


def test_a_fraction_is_held_out_without_a_validation_set(tmp_path, image):
    write(tmp_path / "a.tar", [(f"{c}/{i}.png", image) for c in ("x", "y") for i in range(10)])
    with refused("no-validation-images", data=f"tar:{tmp_path}/a.tar", names="a.tar"):
        load(tmp_path / "a.tar")
    data = load(tmp_path / "a.tar", val_fraction=0.2)
    assert (len(data.train), len(data.validation)) == (16, 4)


def link(path, image):
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo("train/x/a.png")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)


def truncated(path, image):
    write(path, [("train/x/a.png", image), ("train/x/b.png", bytes(5000))])
    path.write_bytes(path.read_bytes()[: 512 + 1024 + 2000])


def of(*members):
    """A tar of members; content None stands for an image."""
    return lambda path, image: write(path, [(name, content or image) for name, content in members])


@pytest.mark.parametrize(
    ("make", "code", "member", "name"),
    [
        (link, "link-in-tar", "", "train/x/a.png"),
        (truncated, "damaged-tar", "", None),
        (of(("../x/a.png", None)), "path-outside-tar", "", "../x/a.png"),
        (of(("/x/a.png", None)), "path-outside-tar", "", "/x/a.png"),
        (of(("a.png", None)), "no-class-folder", ":a.png", None),
        (of(("x/a.txt", b"a")), "no-images", "", None),
        (of(("a.png", None), ("b.cls", b"1")), "image-without-label", ":a.png", None),
        (lambda path, image: path.write_bytes(b"no tar" * 200), "damaged-tar", "", None),
    ],
)
def test_invalid_tars_are_refused(tmp_path, image, make, code, member, name):
    make(tmp_path / "a.tar", image)
    with refused(code, path=f"{tmp_path}/a.tar{member}", name=name):
        load(tmp_path / "a.tar")


def test_the_same_tar_twice_is_refused(tmp_path):
    write(tmp_path / "a.tar", samples([0, 1]))
    (tmp_path / "b.tar").symlink_to("a.tar")
    with refused("same-file-twice", path=str(tmp_path / "b.tar"), first=str(tmp_path / "a.tar")):
        load(tmp_path / "*.tar")


def test_no_tars(tmp_path):
    with refused("no-matching-files", pattern=f"{tmp_path}/*.tar"):
        Data(data=f"tar:{tmp_path}/*.tar")


def samples(labels, names="{:04d}", image=b""):
    """WebDataset samples with those labels."""
    return [
        (f"{names.format(i)}.{kind}", content)
        for i, label in enumerate(labels)
        for kind, content in (("png", image or encoded(i)), ("cls", str(label).encode()))
    ]


def test_root_folders_that_all_tars_share_are_not_classes(tmp_path):
    for part in ("train", "val"):
        members = [(f"pets_{part}/{c}/{i}.png", encoded(i)) for c in ("cat", "dog") for i in range(2)]
        write(tmp_path / f"{part}.tar", members)
    data = load(tmp_path / "*.tar")
    assert data.class_names == ["cat", "dog"]
    assert list(data.train.keys) == [
        "train/cat/0.png",
        "train/cat/1.png",
        "train/dog/0.png",
        "train/dog/1.png",
    ]
    assert data.train.clean_labels.tolist() == [0, 0, 1, 1]


def test_root_folders_named_like_their_tars_may_have_a_number(tmp_path):
    for shard in ("train-0", "train-1", "val-0"):
        write(tmp_path / f"{shard}.tar", [(f"{shard}/{c}/{shard}.png", encoded()) for c in ("cat", "dog")])
    data = load(tmp_path / "*.tar")
    assert (data.class_names, len(data.train)) == (["cat", "dog"], 4)


def test_classes_may_be_named_like_parts(tmp_path):
    for part in ("train", "val"):
        members = [(f"{c}/{i}.png", encoded(i)) for c in ("train", "test tube", "val") for i in range(2)]
        write(tmp_path / f"{part}.tar", members)
    data = load(tmp_path / "*.tar")
    assert data.class_names == ["test tube", "train", "val"]
    assert (len(data.train), len(data.validation)) == (6, 6)
    write(
        tmp_path / "all.tar",
        [(f"{p}/{c}/1.png", encoded()) for p in ("train", "val") for c in ("train", "val")],
    )
    data = load(tmp_path / "all.tar")
    assert (data.class_names, list(data.train.keys)) == (
        ["train", "val"],
        ["train/train/1.png", "train/val/1.png"],
    )


@pytest.mark.parametrize(
    ("train", "held"),
    [
        ("imagenet1k-train-00", "imagenet1k-validation-00"),
        ("part-0", "part-dev-0"),
        ("partial-train/0", "partial-eval/0"),
        ("mnist", "mnist_test"),
    ],
)
def test_names_of_tars_and_their_folders_determine_the_part(tmp_path, train, held):
    write(tmp_path / f"test/{train}.tar", samples([0, 1, 0, 1]))
    write(tmp_path / f"test/{held}.tar", samples([0, 1]))
    pattern = tmp_path / ("test/*/*.tar" if "/" in train else "test/*.tar")
    data = load(pattern)
    assert (len(data.train), len(data.validation)) == (4, 2)
    assert data.describe()["parts"] == {
        "train": [f"{train}.tar"],
        "validation": [f"{held}.tar"],
        "left_out": [],
    }
    with refused("val-images-and-fraction", val_fraction=0.5, names=f"{held}.tar"):
        load(pattern, val_fraction=0.5)


def test_the_innermost_name_decides_and_may_not_have_two_parts(tmp_path):
    inner = [(f"{part}/{c}/1.png", encoded()) for part in ("train", "val") for c in ("cat", "dog")]
    write(tmp_path / "pets_train_val.tar", inner)
    assert len(load(tmp_path / "*.tar").train) == 2
    write(tmp_path / "pets_train_val.tar", [(f"{c}/1.png", encoded()) for c in ("cat", "dog")])
    with refused("several-parts-in-name", name="pets_train_val", parts="train and val"):
        load(tmp_path / "*.tar")


def test_test_images_are_not_used_if_there_are_validation_images(tmp_path, capsys):
    for part in ("train", "val"):
        write(tmp_path / f"{part}.tar", [(f"{part}/{c}/1.png", encoded()) for c in ("cat", "dog")])
    write(tmp_path / "test.tar", [(f"test/{i}.png", encoded()) for i in range(3)])
    data = load(tmp_path / "*.tar")
    assert (data.class_names, len(data.train), len(data.validation)) == (["cat", "dog"], 2, 2)
    # Images without a class cannot serve for validation.
    (tmp_path / "val.tar").unlink()
    with refused("no-class-folder", path=f"{tmp_path}/test.tar:test/0.png"):
        load(tmp_path / "*.tar")
    write(tmp_path / "test.tar", [(f"test/{c}/1.png", encoded()) for c in ("cat", "dog")])
    assert len(load(tmp_path / "*.tar").validation) == 2
    write(tmp_path / "val.tar", [(f"val/{c}/1.png", encoded()) for c in ("cat", "dog")])
    capsys.readouterr()
    assert load(tmp_path / "*.tar").parts["left_out"] == ["test.tar:test"]
    assert "test images are not used (test.tar:test)" in capsys.readouterr().out


def test_the_last_of_repeated_names_is_used(tmp_path, capsys):
    first, last = encoded(10), encoded(200)
    members = [("cat/1.png", first), ("dog/1.png", first), ("./cat/1.png", last), ("cat/2.png", first)]
    write(tmp_path / "train.tar", members)
    write(tmp_path / "val.tar", members[:2])
    data = load(tmp_path / "*.tar")
    assert list(data.train.keys) == ["train/cat/1.png", "train/cat/2.png", "train/dog/1.png"]
    assert data.train.inputs[[0]].float().mean() > 150
    assert "repeated names in a tar (the last one is used): 1 (" in capsys.readouterr().out


def test_equal_names_in_two_tars_are_two_examples(tmp_path):
    for shard in ("train-0", "train-1", "val"):
        write(tmp_path / f"{shard}.tar", samples([0, 1]))
    keys = [f"train/train-{shard}/{i:04d}.png" for i in range(2) for shard in range(2)]
    assert sorted(load(tmp_path / "*.tar").train.keys) == sorted(keys)


def test_hidden_and_other_files_are_counted(tmp_path, capsys):
    members = [(f"{p}/{c}/1.png", encoded()) for p in ("train", "val") for c in ("cat", "dog")]
    hidden = [
        ("__MACOSX/train/cat/._1.png", b"fork"),
        ("train/cat/Thumbs.db", b"x"),
        ("train/.DS_Store", b"x"),
    ]
    write(tmp_path / "all.tar", [*members, *hidden, ("readme.txt", b"x"), ("train/cat/1.heic", b"x")])
    assert load(tmp_path / "all.tar").class_names == ["cat", "dog"]
    printed = capsys.readouterr()
    assert "hidden files and folders: 3 (__MACOSX: 1, Thumbs.db: 1, .DS_Store: 1)" in printed.out
    assert "not images: 2 (.txt: 1, .heic: 1)" in printed.err


def test_data_after_the_end_of_a_tar_is_refused(tmp_path):
    """Tars joined by cat, or a damaged header, which tarfile mistakes for the end."""
    one, two = (
        write(tmp_path / name, [(f"{c}/{name}{i}.png", encoded()) for c in ("x", "y") for i in range(5)])
        for name in ("a.tar", "b.tar")
    )
    whole = one.read_bytes()
    one.write_bytes(whole + two.read_bytes())
    with refused("damaged-tar", path=str(one)):
        load(one, val_fraction=0.4)
    header = whole.index(b"x/a.tar3.png")
    one.write_bytes(whole[:header] + b"\xff" + whole[header + 1 :])
    with refused("damaged-tar", path=str(one)):
        load(one, val_fraction=0.4)


def test_a_tar_without_an_end_marker_gives_a_warning(tmp_path, capsys):
    path = write(tmp_path / "a.tar", [(f"{c}/{i}.png", encoded()) for c in ("x", "y") for i in range(5)])
    path.write_bytes(path.read_bytes().rstrip(b"\0").ljust(20 * 512, b"\0")[: 20 * 512])
    assert len(load(path, val_fraction=0.4).train) == 6
    assert "possibly truncated: 1 (" in capsys.readouterr().err


def test_names_that_are_not_utf8_are_refused(tmp_path):
    path = write(
        tmp_path / "a.tar", [(f"{c}/{i}.png", encoded()) for c in ("x\udcff", "y") for i in range(5)]
    )
    with refused("name-not-utf8", name=r"'x\udcff'"):
        load(path, val_fraction=0.4)


PARTS = ("train", "val")


def class_folders(*roots, inside=("cat", "dog")):
    return [(f"{root}/{c}/{i}.png", encoded(i)) for root in roots for c in inside for i in range(3)]


def test_an_image_outside_class_folders_is_skipped(tmp_path, capsys):
    write(tmp_path / "all.tar", [*class_folders(*PARTS), ("train/stray.png", encoded())])
    data = load(tmp_path / "all.tar")
    assert (data.class_names, len(data.train)) == (["cat", "dog"], 6)
    assert "outside class folders: 1 (" in capsys.readouterr().err
    with refused("val-images-and-fraction", names="all.tar:val"):
        load(tmp_path / "all.tar", val_fraction=0.25)


def test_folders_that_may_be_parts_or_classes_are_refused(tmp_path):
    write(tmp_path / "all.tar", class_folders("train", "train_extra", "val"))
    with refused("classes-or-parts", folders="train, train_extra, val"):
        load(tmp_path / "all.tar", val_fraction=0.25)


def test_classes_may_differ_only_by_the_word_test(tmp_path):
    kinds = [f"{kind}/{side}" for kind in ("tube", "test tube") for side in ("l", "r")]
    write(tmp_path / "all.tar", class_folders(*PARTS, inside=kinds))
    data = load(tmp_path / "all.tar")
    assert (data.class_names, len(data.train), len(data.validation)) == (["test tube", "tube"], 12, 12)
    (tmp_path / "all.tar").unlink()
    for part in PARTS:
        write(tmp_path / f"{part}.tar", [(f"{kind}/{i}.png", encoded(i)) for kind in kinds for i in range(3)])
    data = load(tmp_path / "*.tar")
    assert (data.class_names, len(data.train), len(data.validation)) == (["test tube", "tube"], 12, 12)


def test_the_part_in_two_folder_names(tmp_path):
    for part in PARTS:
        write(tmp_path / f"{part}.tar", class_folders(f"pets_{part}/{part}"))
    data = load(tmp_path / "*.tar")
    assert (data.class_names, len(data.train), len(data.validation)) == (["cat", "dog"], 6, 6)


def test_numbered_root_folders_are_reported(tmp_path, capsys):
    for shard in ("train-0", "train-1", "val-0"):
        write(tmp_path / f"{shard}.tar", class_folders(shard))
    assert load(tmp_path / "*.tar").class_names == ["cat", "dog"]
    assert "root folders named like their tars, not classes: 3 (" in capsys.readouterr().out


def test_the_part_may_be_the_extension(tmp_path):
    for part in PARTS:
        write(tmp_path / f"img.{part}", [(f"{c}/{part}{i}.png", encoded(i)) for c in "ab" for i in range(3)])
    data = load(tmp_path / "img.*")
    assert (len(data.train), len(data.validation)) == (6, 6)


def test_test_images_without_labels_are_not_used(tmp_path, capsys):
    for part in PARTS:
        write(tmp_path / f"s-{part}.tar", samples([0, 1]))
    write(tmp_path / "s-test.tar", [(f"t{i}.png", encoded(i)) for i in range(3)])
    data = load(tmp_path / "*.tar")
    assert (len(data.train), len(data.validation), data.parts["left_out"]) == (2, 2, ["s-test.tar"])
    assert "test images are not used (s-test.tar)" in capsys.readouterr().out
    (tmp_path / "s-val.tar").unlink()
    with refused("image-without-label", path=f"{tmp_path}/s-test.tar:t0.png"):
        load(tmp_path / "*.tar")
    write(tmp_path / "all.tar", [*class_folders(*PARTS), ("test/0.png", encoded())])
    assert load(tmp_path / "all.tar").parts["left_out"] == ["all.tar:test"]


def test_the_folders_in_a_tar_decide_before_its_name(tmp_path):
    write(tmp_path / "training_data.tar", class_folders(*PARTS))
    data = load(tmp_path / "*.tar")
    assert (data.class_names, len(data.train), len(data.validation)) == (["cat", "dog"], 6, 6)
