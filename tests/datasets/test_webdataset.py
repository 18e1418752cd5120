"""Which label an image in a tar has, and when there is none."""

import json

import pytest

from hardness import datasets
from hardness.config import Data
from hardness.errors import UserError
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
def test_labels_in_every_spelling(tmp_path, kind, contents, names):
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


def test_metadata_may_say_the_same_label_again(tmp_path):
    members = [
        (f"{i}.{kind}", c)
        for i in range(4)
        for kind, c in (("png", IMAGE), ("cls", b"%d" % (i % 2)), ("json", b'{"label": %d}' % (i % 2)))
    ]
    assert list(named(load(tmp_path, members)).values()) == ["0", "0", "1", "1"]


def test_beside_a_cls_file_json_may_hold_anything(tmp_path):
    members = []
    for i, content in enumerate((b"[[0, 0, 8, 8]]", b"{", b'{"label": {"box": 1}}', b"null")):
        members += [(f"{i}.png", IMAGE), (f"{i}.cls", b"%d" % (i % 2)), (f"{i}.json", content)]
    assert list(named(load(tmp_path, members)).values()) == ["0", "0", "1", "1"]


def test_companions_are_left_out_and_counted(tmp_path, capsys):
    members = []
    for i in range(4):
        members += [
            (f"{i}.jpg", encoded(kind="JPEG")),
            (f"{i}.seg.png", IMAGE),
            (f"{i}.a.b.png", IMAGE),
            (f"{i}.cls", b"%d" % (i % 2)),
        ]
    assert sorted(named(load(tmp_path, members))) == [f"{i}.jpg" for i in range(4)]
    assert (
        "companion images without a label of their own left out: 16 (the first: " in capsys.readouterr().out
    )


def test_one_whose_key_extends_another_may_have_a_label_of_its_own(tmp_path):
    members = [
        (name, IMAGE if name.endswith("png") else b"%d" % (len(name) % 2))
        for name in ("1.png", "1.cls", "1.ab.png", "1.ab.cls", "22.png", "22.cls")
    ]
    assert sorted(named(load(tmp_path, members))) == ["1.ab.png", "1.png", "22.png"]


def test_label_files_without_an_image_are_counted(tmp_path, capsys):
    members = [("0.png", IMAGE), ("0.cls", b"0"), ("1.png", IMAGE), ("1.cls", b"1"), ("9.cls", b"7")]
    assert named(load(tmp_path, members)) == {"0.png": "0", "1.png": "1"}
    assert "label files without an image: 2 (the first: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ([("a.cls", b"")], r"a label in .*train\.tar:a\.cls; found '' is no class index"),
        ([("a.cls", b"1.5")], r"a label in .*a\.cls; found '1\.5'"),
        ([("a.cls", b"-1")], r"a label in .*a\.cls; found '-1'"),
        ([("a.cls", b"\x07\0\0\0")], r"a label in .*a\.cls; found "),
        ([("a.cls", b"\xff\xfe")], r"a label in .*a\.cls; found .*decode"),
        ([("a.cls", b"cat\ndog")], r"a label in .*a\.cls; found 'cat"),
        (
            [("a.cls", b"9" * 12)],
            r"a label in .*a\.cls; found '999999999999' is no class index below 1,000,000",
        ),
        ([("a.cls", b"9" * 5000)], r"a label in .*a\.cls; found "),
        (
            [("a.cls", b"cat")],
            r"class indices or class names as labels; found 0 in .*0\.cls and 'cat' in .*a\.cls",
        ),
        ([("a.json", b'{"label": true}')], r"a label in .*a\.json; found true is no class index"),
        ([("a.json", b'{"label": [1]}')], r"a label in .*a\.json; found \[1\] is no class index"),
        ([("a.json", b"{")], r"a label in .*a\.json; found Expecting"),
        ([("a.json", b'{"label": 1, "cls": 0}')], r"a label in .*a\.json; found different labels"),
        ([("a.json", b'{"width": 8}')], r"a label of .*train\.tar:a\.png; found no \.cls or \.json file"),
        ([], r"a label of .*train\.tar:a\.png; found no \.cls or \.json file"),
        ([("a.cls", b"0"), ("a.json", b"1")], r"one label in .*a\.cls; found 0, and 1 in .*a\.json"),
        ([("a.cls", b"0"), ("a.CLS", b"1")], r"one label in .*a\.cls; found 0, and 1 in .*a\.CLS"),
        ([("a.cls", b"0"), ("a.jpg", IMAGE)], r"one image of each key; found .*a\.png and .*a\.jpg"),
    ],
)
def test_what_is_no_label_is_refused_with_its_file(tmp_path, more, told):
    members = [(f"{i}.{kind}", c) for i in range(2) for kind, c in (("png", IMAGE), ("cls", b"%d" % i))]
    with pytest.raises(UserError, match=told):
        load(tmp_path, [*members, ("a.png", IMAGE), *more])


def test_the_same_text_in_another_folder_or_tar_is_another_sample(tmp_path):
    write_tar(
        tmp_path / "train-0.tar",
        [("x/1.png", IMAGE), ("x/1.cls", b"0"), ("y/1.png", IMAGE), ("y/1.cls", b"1")],
    )
    write_tar(tmp_path / "train-1.tar", [("x/1.png", IMAGE), ("x/1.cls", b"2")])
    write_tar(tmp_path / "val.tar", [("x/1.png", IMAGE), ("x/1.cls", b"2")])
    data = datasets.load(Data(data=f"tar:{tmp_path}/*.tar"))
    assert named(data) == {"train-0/x/1.png": "0", "train-0/y/1.png": "1", "train-1/x/1.png": "2"}
