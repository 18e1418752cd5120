"""A pack equals its source, decoded once; damaged packs are rejected."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from hardness import datasets
from hardness.config import Data
from hardness.errors import UserError
from hardness.registry import source_of
from hardness.stages import pack as stage
from hardness.stages.pack import Pack, pack
from hardness.stages.track import Track, track
from tests.conftest import refused


@pytest.fixture
def folder(image_folder, monkeypatch):
    """The image folder, packed into shards of five images."""
    monkeypatch.setattr(stage, "_SHARD_BYTES", 5 * 3 * 12 * 12)
    return pack(Pack(data=f"imagefolder:{image_folder}", workers=0))


def load(folder):
    return datasets.load(Data(data=f"packed:{folder}"), model="mlp")


def test_a_pack_has_the_pixels_and_description_of_its_source(folder, image_folder):
    assert folder == image_folder.with_suffix(".packed")
    assert sorted(path.name for path in folder.iterdir()) == [
        "pack.json",
        *(f"train-{number:05d}.arrow" for number in range(5)),
        *(f"val-{number:05d}.arrow" for number in range(3)),
    ]
    source, found = datasets.load(Data(data=f"imagefolder:{image_folder}"), model="mlp"), load(folder)
    assert found.fingerprint == source.fingerprint
    assert found.describe() == source.describe()
    order = np.random.default_rng(0).permutation(24).tolist()
    for part in ("train", "validation"):
        one, other = getattr(source, part), getattr(found, part)
        assert list(one.keys) == list(other.keys)
        ids = [i for i in order if i < len(one)]
        for tensor, expected in zip(other.__getitems__(ids), one.__getitems__(ids), strict=True):
            assert torch.equal(tensor, expected)
            assert tensor.dtype == expected.dtype


def test_runs_on_a_pack_and_on_its_source_are_identical(folder, image_folder, here):
    for name, data in (("a", f"imagefolder:{image_folder}"), ("b", f"packed:{folder}")):
        track(Track(data=data, model="small_cnn", epochs=1, batch_size=6, workers=0, out=here / name))
    for path in (here / "a").rglob("*.parquet"):
        assert path.read_bytes() == (here / "b" / path.relative_to(here / "a")).read_bytes()


@pytest.mark.parametrize("workers", [0, 2])
def test_interrupted_packing_resumes_and_gives_the_same_bytes(folder, image_folder, workers, capsys):
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    for name in ("pack.json", "train-00003.arrow", "train-00004.arrow", "val-00001.arrow", "val-00002.arrow"):
        (folder / name).unlink()
    (folder / ".train-00003.arrow.writing").write_bytes(b"half")
    kept = (folder / "train-00000.arrow").stat().st_mtime_ns
    with pytest.raises(UserError, match=r"pack\.json"):
        Data(data=f"packed:{folder}")
    pack(Pack(data=f"imagefolder:{image_folder}", workers=workers))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole
    assert (folder / "train-00000.arrow").stat().st_mtime_ns == kept
    # 9 training and 7 validation images were missing.
    assert "packed 16 images" in capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    pack(Pack(data=f"imagefolder:{image_folder}", workers=0))
    assert "already packed" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_an_unreadable_image_stops_packing_or_is_skipped(image_folder):
    (image_folder / "train/dog/2.png").write_text("no image")
    data = f"imagefolder:{image_folder}"
    with refused("unreadable-image", path=str(image_folder / "train/dog/2.png")):
        pack(Pack(data=data, workers=0))
    folder = pack(Pack(data=data, workers=0, on_bad_image="null"))
    assert load(folder).train.unreadable.tolist() == [10]
    assert datasets.load(Data(data=data, on_bad_image="null"), model="mlp").train.unreadable.tolist() == [10]


def test_digits_can_be_packed(here):
    folder = pack(Pack(workers=0))
    assert folder.as_posix() == "data/digits.packed"
    source, found = datasets.load(Data(), model="mlp"), load(folder)
    assert found.fingerprint == source.fingerprint
    assert torch.equal(found.train.inputs[range(1437)], source.train.inputs[range(1437)])


def test_a_pack_of_other_images_is_rejected(folder, image_folder):
    values = {"what": "image shape", "found": [3, 12, 12], "expected": [3, 8, 8]}
    with refused("pack-of-other-data", path=str(folder), **values):
        pack(Pack(data=f"imagefolder:{image_folder}", size=8, workers=0, out=folder))
    (folder / "pack.json").unlink()
    shutil.copy(image_folder / "train/dog/0.png", image_folder / "train/cat/new.png")
    values = {"what": "key of example 8", "found": "train/dog/0.png", "expected": "train/cat/new.png"}
    with refused("pack-of-other-data", path=str(folder / "train-00001.arrow"), **values):
        pack(Pack(data=f"imagefolder:{image_folder}", workers=0, out=folder))


def flip(path):
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def version(path):
    info = json.loads(path.read_text())
    path.write_text(json.dumps(info | {"format_version": "0"}))


def climb(path):
    info = json.loads(path.read_text())
    path.write_text(json.dumps(info | {"shards": {"../train-00000.arrow": ""}}))


@pytest.mark.parametrize(
    ("name", "damage", "opened", "verified"),
    [
        ("train-00001.arrow", Path.unlink, "missing-shard", "missing-shard"),
        ("val-00000.arrow", truncate, "damaged-shard", "damaged-shard"),
        ("val-00000.arrow", lambda path: path.write_bytes(b""), "damaged-shard", "damaged-shard"),
        # Opening does not read the pixels.
        ("train-00002.arrow", flip, None, "damaged-shard"),
        ("pack.json", lambda path: path.write_text("{"), "invalid-json", "invalid-json"),
        ("pack.json", version, "other-format-version", "other-format-version"),
        ("pack.json", climb, "inconsistent-pack", "inconsistent-pack"),
    ],
)
def test_a_damaged_pack_is_rejected(folder, name, damage, opened, verified):
    assert pack(Pack(verify=folder)) == folder
    damage(folder / name)
    for code, attempt in ((opened, lambda: load(folder)), (verified, lambda: pack(Pack(verify=folder)))):
        if code is not None:
            with refused(code) as caught:
                attempt()
            assert str(folder) in str(caught.value)
            assert name in str(caught.value)


def test_a_damaged_shard_is_removed_and_packed_again(folder, image_folder):
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    flip(folder / "train-00002.arrow")
    with refused("damaged-shard", path=str(folder / "train-00002.arrow")):
        pack(Pack(verify=folder))
    (folder / "train-00002.arrow").unlink()
    pack(Pack(data=f"imagefolder:{image_folder}", workers=0))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole


def test_a_shard_of_other_images_is_rejected(folder):
    table = pa.record_batch({"image": pa.array([b"ab"], pa.binary(2))})
    with pa.ipc.new_file(str(folder / "val-00000.arrow"), table.schema) as file:
        file.write_batch(table)
    values = {"found": "image: fixed_size_binary[2]", "expected": "image: fixed_size_binary[432]"}
    with refused("pack-of-other-data", path=str(folder / "val-00000.arrow"), **values):
        load(folder)


def test_a_pack_cannot_be_packed(folder):
    with pytest.raises(UserError):
        Pack(data=f"packed:{folder}")


@pytest.mark.parametrize(
    ("data", "out"),
    [
        ("digits", "data/digits.packed"),
        ("imagefolder:a/b/", "a/b.packed"),
        ("imagenet:a", "a.packed"),
        ("tar:a/b/*.tar", "a/b.packed"),
        ("parquet:a/b/*.parquet:image:label", "a/b.packed"),
        ("torchvision:MNIST:a", "a/MNIST.packed"),
    ],
)
def test_the_default_folder(data, out):
    assert source_of(data).packed_folder.as_posix() == out


def test_the_default_folder_for_the_current_folder(here):
    assert source_of("imagefolder:.").packed_folder == here.with_name(f"{here.name}.packed")
    assert source_of("tar:*.tar").packed_folder == here.with_name(f"{here.name}.packed")


def test_a_pack_of_other_validation_images_is_rejected(image_folder):
    folder = pack(Pack(data=f"imagefolder:{image_folder}", workers=0))
    shutil.copy(image_folder / "val/cat/0.png", image_folder / "val/cat/9.png")
    values = {"found": {"train": 24, "val": 12}, "expected": {"train": 24, "val": 13}}
    with refused("pack-of-other-data", what="number of images", **values):
        pack(Pack(data=f"imagefolder:{image_folder}", workers=0, out=folder))


def test_a_pack_of_other_labels_is_rejected(image_folder, tmp_path):
    images = [path.read_bytes() for path in sorted((image_folder / "train").rglob("*.png"))][:8]
    for labels in ([0, 1] * 4, [1, 0] * 4):
        for part in ("train", "val"):
            pq.write_table(pa.table({"image": images, "label": labels}), tmp_path / f"{part}.parquet")
        source = Pack(data=f"parquet:{tmp_path}/*.parquet", workers=0, out=tmp_path / "p")
        if labels[0] == 0:
            pack(source)
    with refused("pack-of-other-data", what="label of example 0", found=0, expected=1):
        pack(source)
