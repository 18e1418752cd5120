"""Parquet files with encoded images, as on the Hugging Face hub."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from hardness import datasets
from hardness.config import Data
from hardness.datasets.parquet import columns_of
from hardness.stages.pack import Pack, pack
from tests.conftest import refused
from tests.datasets.archives import encoded

NAMES = ["cat", "dog", "eel"]


def write(path, images, labels, image="image", label="label", names=None, row_group_size=5):
    """Images as bytes, which Hugging Face wraps in structs."""
    table = pa.table({image: images, label: labels})
    if names:
        info = {"info": {"features": {label: {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    pq.write_table(table, path, row_group_size=row_group_size)


def wrapped(images):
    return pa.array([{"bytes": image, "path": f"{i}.png"} for i, image in enumerate(images)])


def load(pattern, **settings):
    return datasets.load(Data(data=f"parquet:{pattern}", **settings))


@pytest.fixture
def source(image_folder):
    return datasets.load(Data(data=f"imagefolder:{image_folder}"))


def contents(images, image_folder):
    return [(image_folder / key).read_bytes() for key in images.keys]


@pytest.fixture
def files(source, image_folder, tmp_path):
    """The images of the image folder in two training files and a validation file."""
    train = contents(source.train, image_folder)
    labels = source.train.clean_labels.numpy()
    for number, part in enumerate((slice(0, 14), slice(14, 24))):
        path = tmp_path / f"train-0000{number}-of-00002.parquet"
        write(path, wrapped(train[part]), labels[part], names=NAMES)
    validation = contents(source.validation, image_folder)
    write(
        tmp_path / "validation-00000-of-00001.parquet",
        wrapped(validation),
        source.validation.clean_labels.numpy(),
        names=NAMES,
    )
    return tmp_path / "*.parquet"


@pytest.mark.parametrize("cache", ["host", "none"])
def test_images_and_labels_equal_those_of_the_folder(files, source, cache):
    found = load(files, cache=cache)
    assert found.class_names == NAMES
    assert found.train.keys[16] == "train-00001-of-00002/0-00002"
    assert len(set(found.train.keys)) == 24
    for one, other in ((source.train, found.train), (source.validation, found.validation)):
        ids = np.random.default_rng(0).permutation(len(one))
        for expected, tensor in zip(one.__getitems__(ids), other.__getitems__(ids), strict=True):
            assert torch.equal(expected, tensor)


def test_they_are_packed(files, source, tmp_path):
    folder = pack(Pack(data=f"parquet:{files}", workers=2, out=tmp_path / "p"))
    found = datasets.load(Data(data=f"packed:{folder}"))
    assert torch.equal(found.train.inputs[range(24)], source.train.inputs[range(24)])


def test_column_names_and_class_names(source, image_folder, tmp_path):
    images = contents(source.train, image_folder)
    path = tmp_path / "a.parquet"
    labels = [f"{NAMES[label]}s" for label in source.train.clean_labels]
    write(path, pa.array(images, pa.large_binary()), labels, image="img", label="kind")
    found = load(f"{path}:img:kind", val_fraction=0.25)
    assert found.class_names == ["cats", "dogs", "eels"]
    assert (len(found.train), len(found.validation)) == (18, 6)
    write(path, pa.array(images), source.train.clean_labels.numpy() + 1)
    found = load(path, val_fraction=0.25)
    assert found.class_names == ["0", "1", "2", "3"]
    assert found.train.clean_labels.min() == 1


@pytest.mark.parametrize("cell", [None, {"bytes": None, "path": "a.png"}, {"bytes": b"no image", "path": ""}])
def test_a_cell_without_an_image_is_an_unreadable_image(source, image_folder, tmp_path, cell):
    cells = wrapped(contents(source.train, image_folder)).to_pylist()
    cells[7] = cell
    path = tmp_path / "a.parquet"
    write(path, pa.array(cells), source.train.clean_labels.numpy())
    with refused("unreadable-image", path=f"{path}, row 2 of group 1"):
        load(path, val_fraction=0.25, cache="host")
    found = load(path, val_fraction=0.25, cache="host", on_bad_image="null")
    assert len(found.train.unreadable) + len(found.validation.unreadable) == 1


IMAGES = {"image": [b"", b""]}


@pytest.mark.parametrize(
    ("columns", "code", "values"),
    [
        ({"image": ["a", "b"], "label": [0, 1]}, "wrong-column-type", {"column": "image", "type": "string"}),
        ({"image": [1.5, 2.0], "label": [0, 1]}, "wrong-column-type", {"column": "image", "type": "double"}),
        (IMAGES | {"label": [[0], [1]]}, "wrong-column-type", {"column": "label"}),
        (IMAGES | {"label": ["cat", ""]}, "empty-cell", {"column": "label", "row": 1}),
        (IMAGES | {"label": [0, -1]}, "value-out-of-range", {"column": "label", "value": -1, "row": 1}),
        (IMAGES | {"label": [0, 10**12]}, "value-out-of-range", {"row": 1, "last": 999_999}),
        (
            {"picture": [b""], "label": [0]},
            "no-such-column",
            {"column": "image", "columns": "picture, label"},
        ),
        (IMAGES | {"fine": [0, 1]}, "no-such-column", {"column": "label", "columns": "image, fine"}),
    ],
)
def test_invalid_columns_are_refused(tmp_path, columns, code, values):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(columns), path)
    with refused(code, path=str(path), **values):
        load(path, val_fraction=0.5)


def test_class_names_must_be_utf8(tmp_path):
    labels = pa.StringArray.from_buffers(
        2, pa.array([0, 1, 2], pa.int32()).buffers()[1], pa.py_buffer(b"a\xff")
    )
    pq.write_table(pa.table(IMAGES | {"label": labels}), tmp_path / "a.parquet")
    with refused("damaged-parquet", path=str(tmp_path / "a.parquet")):
        load(tmp_path / "a.parquet", val_fraction=0.5)


def test_invalid_files_are_refused(files, tmp_path):
    (tmp_path / "z.parquet").write_bytes(b"no Parquet")
    with refused("damaged-parquet", path=str(tmp_path / "z.parquet")):
        load(files)
    write(tmp_path / "z.parquet", pa.array([b""]), [0], names=["other"])
    first = tmp_path / "train-00000-of-00002.parquet"
    with refused("other-classes", path=str(tmp_path / "z.parquet"), first=str(first)):
        load(files)
    write(tmp_path / "z.parquet", pa.array([b""]), [3], names=NAMES)
    with refused("value-out-of-range", path=str(tmp_path / "z.parquet"), value=3, row=0, last=2):
        load(files)
    names = "train-00000-of-00002.parquet, train-00001-of-00002.parquet"
    with refused("no-validation-images", names=names):
        load(tmp_path / "train*.parquet")


def test_no_path():
    with refused("no-data-path", data="parquet:"):
        Data(data="parquet:")


@pytest.mark.parametrize("place", ["a.parquet:image", "a:b:c:d"])
def test_missing_files_may_be_invalid_column_names(place):
    with refused("no-matching-files", pattern=place.removesuffix(":c:d")) as caught:
        Data(data=f"parquet:{place}")
    assert "IMAGE_COLUMN:LABEL_COLUMN" in str(caught.value)


def test_no_files(tmp_path):
    with refused("no-matching-files", pattern=f"{tmp_path}/*.parquet"):
        Data(data=f"parquet:{tmp_path}/*.parquet:image:label")


def test_folders_distinguish_parts_and_keys(source, image_folder, tmp_path):
    for name, images in (("train", source.train), ("validation", source.validation)):
        (tmp_path / "hub" / name).mkdir(parents=True)
        path = tmp_path / "hub" / name / "0000.parquet"
        write(path, wrapped(contents(images, image_folder)), images.clean_labels.numpy(), names=NAMES)
    found = load(tmp_path / "hub/*/*.parquet")
    assert (len(found.train), len(found.validation)) == (24, 12)
    assert found.train.keys[0] == "train/0000/0-00000"
    assert found.validation.keys[0] == "validation/0000/0-00000"


def test_the_first_image_may_be_missing(source, image_folder, tmp_path):
    cells = wrapped(contents(source.train, image_folder)).to_pylist()
    path = tmp_path / "a.parquet"
    write(path, pa.array([None, *cells[1:]]), source.train.clean_labels.numpy())
    assert load(path, val_fraction=0.25, on_bad_image="null").adapter.input_shape == (3, 12, 12)


def rows(count, image=None):
    return {"image": [image or encoded(i) for i in range(count)], "label": [i % 2 for i in range(count)]}


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (pd.Categorical(["dog", "cat", "dog", "cat"]), ["cat", "dog"]),
        ([1.0, 0.0, 1.0, 0.0], ["0", "1"]),
        ([True, False, True, False], ["False", "True"]),
    ],
)
def test_labels_as_pandas_writes_them(tmp_path, labels, names):
    for part in ("train", "val"):
        pd.DataFrame(rows(4) | {"label": labels}).to_parquet(tmp_path / f"{part}.parquet")
    data = load(tmp_path / "*.parquet")
    assert data.class_names == names
    assert data.train.clean_labels.tolist() == [1, 0, 1, 0]


def test_paths_without_bytes_are_refused(tmp_path):
    cells = [{"bytes": None, "path": f"/photos/{i}.png"} for i in range(4)]
    write(
        tmp_path / "a.parquet",
        pa.array(cells, pa.struct({"bytes": pa.binary(), "path": pa.string()})),
        [0, 1] * 2,
    )
    with refused("paths-without-bytes", column="image", first="/photos/0.png"):
        load(tmp_path / "a.parquet", val_fraction=0.5)


@pytest.mark.parametrize(
    ("train", "held"),
    [("train-0", "dev-0"), ("mnist", "mnist_test"), ("partial-train/0000", "partial-validation/0000")],
)
def test_names_of_files_and_folders_determine_the_part(tmp_path, train, held):
    for name, count in ((train, 8), (held, 4)):
        path = tmp_path / "test" / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(rows(count)), path)
    pattern = tmp_path / ("test/*/*.parquet" if "/" in train else "test/*.parquet")
    data = load(pattern)
    assert (len(data.train), len(data.validation)) == (8, 4)
    with refused("val-images-and-fraction", val_fraction=0.5, names=f"{held}.parquet"):
        load(pattern, val_fraction=0.5)


def test_validation_files_are_used_before_test_files(tmp_path, capsys):
    for name, count in (("train", 8), ("validation", 4), ("test", 6)):
        # Hugging Face writes -1 for the labels that a test set hides.
        labels = {"label": [-1] * count} if name == "test" else {}
        pq.write_table(pa.table(rows(count) | labels), tmp_path / f"{name}.parquet")
    data = load(tmp_path / "*.parquet")
    assert (len(data.train), len(data.validation)) == (8, 4)
    assert data.parts == {
        "train": ["train.parquet"],
        "validation": ["validation.parquet"],
        "left_out": ["test.parquet"],
    }
    assert "test images are not used (test.parquet)" in capsys.readouterr().out
    with refused("no-training-images", names="validation.parquet"):
        load(tmp_path / "validation.parquet")


def test_colons_and_brackets_in_a_path(tmp_path):
    folder = tmp_path / "2026-11-25 12:30:00 [1]"
    folder.mkdir()
    for name in ("train", "val"):
        pq.write_table(pa.table(rows(4)).rename_columns(["picture", "kind"]), folder / f"{name}.parquet")
    assert len(load(f"{folder}/*.parquet:picture:kind").train) == 4
    with refused("no-such-column", column="image", columns="picture, kind"):
        load(f"{folder}/*.parquet")


def test_a_class_without_examples_gives_a_warning(tmp_path, capsys):
    for name in ("train", "val"):
        pq.write_table(pa.table(rows(4) | {"label": [1, 2, 1, 2]}), tmp_path / f"{name}.parquet")
    data = load(tmp_path / "*.parquet")
    assert data.class_names == ["0", "1", "2"]
    warned = capsys.readouterr().err
    assert "warning: classes without training images: 1 of 3 (0)" in warned
    assert "Do labels start at 1?" in warned


def test_a_class_with_only_validation_images_is_refused(tmp_path):
    pq.write_table(pa.table(rows(4)), tmp_path / "train.parquet")
    pq.write_table(pa.table(rows(4) | {"label": [0, 1, 2, 2]}), tmp_path / "val.parquet")
    with refused("class-only-in-validation", classes="1 of 3 (2)"):
        load(tmp_path / "*.parquet")


def test_a_damaged_page_with_a_checksum_is_detected(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(
        pa.table(rows(8)),
        path,
        compression="none",
        write_page_checksum=True,
        use_dictionary=False,
        write_statistics=False,
    )
    data = bytearray(path.read_bytes())
    # In a chunk of the PNG that has no pixels.
    data[data.index(b"IEND") + 4] ^= 1
    path.write_bytes(data)
    with refused("no-readable-image") as caught:
        load(path, val_fraction=0.5)
    assert "CRC" in caught.value.values["reason"]


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("d/*.parquet", ("d/*.parquet", "image", "label")),
        ("d/*.parquet:img:fine", ("d/*.parquet", "img", "fine")),
        ("12:30/*.parquet", ("12:30/*.parquet", "image", "label")),
        ("12:30/*.parquet:img:fine", ("12:30/*.parquet", "img", "fine")),
        ("12:30:00/*.parquet", ("12:30:00/*.parquet", "image", "label")),
    ],
)
def test_paths_may_contain_colons(here, place, expected):
    for folder in ("d", "12:30", "12:30:00"):
        Path(folder).mkdir()
        Path(folder, "a.parquet").touch()
    assert columns_of(place) == expected
