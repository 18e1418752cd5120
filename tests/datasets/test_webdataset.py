"""The labels of images in tars."""

import json
import re

import pytest

from hardness import datasets
from hardness.config import Data
from tests.conftest import refused
from tests.datasets.archives import encoded, write_tar

IMAGE = encoded()


def load(tmp_path, members):
    """The data set whose training and validation tars have those members."""
    for part in ("train", "val"):
        write_tar(tmp_path / f"{part}.tar", members)
    return datasets.load(Data(data=f"tar:{tmp_path}/*.tar"))


def named(data):
    """Key -> class name."""
    return {
        key.removeprefix("train/"): data.class_names[label]
        for key, label in zip(data.train.keys, data.train.clean_labels, strict=True)
    }


def test_keys_may_have_dots(tmp_path):
    members = [
        (f"scan_0.{i:02d}.{kind}", c)
        for i in range(6)
        for kind, c in (("png", IMAGE), ("cls", b"%d" % (i % 3)))
    ]
    data = load(tmp_path, members)
    assert named(data) == {f"scan_0.{i:02d}.png": str(i % 3) for i in range(6)}


@pytest.mark.parametrize(
    ("kind", "contents", "names"),
    [
        ("cls", ["000", "7\n", " 3 "], ["0", "7", "3"]),
        ("cls", ["cat", "dog\n", "cat"], ["cat", "dog", "cat"]),
        ("CLS", ["\ufeffcat", "dog", "cat"], ["cat", "dog", "cat"]),
        ("json", ["0", "2", " 1 "], ["0", "2", "1"]),
        ("json", [json.dumps(name) for name in ("cat", "dog", "cat")], ["cat", "dog", "cat"]),
        (
            "json",
            [json.dumps({"label": 1}), json.dumps({"cls": "0"}), json.dumps({"class": 1.0})],
            ["1", "0", "1"],
        ),
        (
            "json",
            [json.dumps({"class": "cat", "caption": 3}), json.dumps({"label": "dog", "cls": None}), '"cat"'],
            ["cat", "dog", "cat"],
        ),
    ],
)
def test_labels_in_every_format(tmp_path, kind, contents, names):
    members = []
    for i, content in enumerate(contents):
        members += [(f"0/{i}.png", IMAGE), (f"0/{i}.{kind}", content.encode())]
    assert named(load(tmp_path, members)) == {f"0/{i}.png": name for i, name in enumerate(names)}


def test_json_without_a_label_is_metadata(tmp_path):
    members = [
        (f"{c}/{c}{i}.{kind}", content)
        for c in "xy"
        for i in range(2)
        for kind, content in (("png", IMAGE), ("json", b'{"width": 8}'))
    ]
    assert named(load(tmp_path, members)) == {f"{c}/{c}{i}.png": c for c in "xy" for i in range(2)}


def test_metadata_may_repeat_the_label(tmp_path):
    members = [
        (f"{i}.{kind}", c)
        for i in range(4)
        for kind, c in (("png", IMAGE), ("cls", b"%d" % (i % 2)), ("json", b'{"label": %d}' % (i % 2)))
    ]
    assert list(named(load(tmp_path, members)).values()) == ["0", "0", "1", "1"]


def test_next_to_a_cls_file_json_may_contain_anything(tmp_path):
    members = []
    for i, content in enumerate((b"[[0, 0, 8, 8]]", b"{", b'{"label": {"box": 1}}', b"null")):
        members += [(f"{i}.png", IMAGE), (f"{i}.cls", b"%d" % (i % 2)), (f"{i}.json", content)]
    assert list(named(load(tmp_path, members)).values()) == ["0", "0", "1", "1"]


def test_unlabeled_images_whose_key_extends_a_labeled_one_are_skipped(tmp_path, capsys):
    members = []
    for i in range(4):
        members += [
            (f"{i}.jpg", encoded(kind="JPEG")),
            (f"{i}.seg.png", IMAGE),
            (f"{i}.a.b.png", IMAGE),
            (f"{i}.cls", b"%d" % (i % 2)),
        ]
    assert sorted(named(load(tmp_path, members))) == [f"{i}.jpg" for i in range(4)]
    assert re.search(r"skipped unlabeled images .*: 16 \(", capsys.readouterr().out)


def test_an_image_whose_key_extends_another_may_have_its_own_label(tmp_path):
    members = [
        (name, IMAGE if name.endswith("png") else b"%d" % (len(name) % 2))
        for name in ("1.png", "1.cls", "1.ab.png", "1.ab.cls", "22.png", "22.cls")
    ]
    assert sorted(named(load(tmp_path, members))) == ["1.ab.png", "1.png", "22.png"]


def test_label_files_without_an_image_are_counted(tmp_path, capsys):
    members = [("0.png", IMAGE), ("0.cls", b"0"), ("1.png", IMAGE), ("1.cls", b"1"), ("9.cls", b"7")]
    assert named(load(tmp_path, members)) == {"0.png": "0", "1.png": "1"}
    assert "label files without an image: 2 (" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (("a.cls", b""), "''"),
        (("a.cls", b"1.5"), "'1.5'"),
        (("a.cls", b"-1"), "'-1'"),
        (("a.cls", b"\x07\0\0\0"), "'\\x07"),
        (("a.cls", b"\xff\xfe"), "decode"),
        (("a.cls", b"cat\ndog"), "'cat"),
        (("a.cls", b"9" * 12), "'999999999999'"),
        (("a.cls", b"9" * 5000), ""),
        (("a.json", b'{"label": true}'), "true"),
        (("a.json", b'{"label": [1]}'), "[1]"),
        (("a.json", b"{"), ""),
        (("a.json", b'{"label": 1, "cls": 0}'), "different labels"),
    ],
)
def test_an_invalid_label_file_is_refused(tmp_path, more, reason):
    members = [(f"{i}.{kind}", c) for i in range(2) for kind, c in (("png", IMAGE), ("cls", b"%d" % i))]
    with refused("invalid-label", path=f"{tmp_path}/train.tar:{more[0]}") as caught:
        load(tmp_path, [*members, ("a.png", IMAGE), more])
    assert reason in caught.value.values["reason"]


@pytest.mark.parametrize(
    ("more", "code", "values"),
    [
        ([("a.cls", b"cat")], "mixed-labels", {"examples": "0 in {}0.cls, 'cat' in {}a.cls"}),
        ([("a.json", b'{"width": 8}')], "image-without-label", {"path": "{}a.png"}),
        ([], "image-without-label", {"path": "{}a.png"}),
        (
            [("a.cls", b"0"), ("a.json", b"1")],
            "conflicting-labels",
            {"path": "{}a.json", "label": 1, "first": "{}a.cls", "first_label": 0},
        ),
        ([("a.cls", b"0"), ("a.CLS", b"1")], "conflicting-labels", {"path": "{}a.CLS", "first": "{}a.cls"}),
        ([("a.cls", b"0"), ("a.jpg", IMAGE)], "duplicate-key", {"path": "{}a.jpg", "first": "{}a.png"}),
    ],
)
def test_conflicting_and_missing_labels_are_refused(tmp_path, more, code, values):
    members = [(f"{i}.{kind}", c) for i in range(2) for kind, c in (("png", IMAGE), ("cls", b"%d" % i))]
    values = {
        name: value.replace("{}", f"{tmp_path}/train.tar:") if isinstance(value, str) else value
        for name, value in values.items()
    }
    with refused(code, **values):
        load(tmp_path, [*members, ("a.png", IMAGE), *more])


def test_the_same_key_in_another_folder_or_tar_is_another_sample(tmp_path):
    write_tar(
        tmp_path / "train-0.tar",
        [("x/1.png", IMAGE), ("x/1.cls", b"0"), ("y/1.png", IMAGE), ("y/1.cls", b"1")],
    )
    write_tar(tmp_path / "train-1.tar", [("x/1.png", IMAGE), ("x/1.cls", b"2")])
    write_tar(tmp_path / "val.tar", [("x/1.png", IMAGE), ("x/1.cls", b"2")])
    data = datasets.load(Data(data=f"tar:{tmp_path}/*.tar"))
    assert named(data) == {"train-0/x/1.png": "0", "train-0/y/1.png": "1", "train-1/x/1.png": "2"}
