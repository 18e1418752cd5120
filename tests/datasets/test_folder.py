import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

from hardness import datasets
from hardness.config import Data
from hardness.datasets.decoding import File, ImageFiles, read_image
from hardness.datasets.pixels import HostPixels
from hardness.errors import UserError
from tests.conftest import write_image


def load(root, model="small_cnn", workers=0, **settings):
    return datasets.load(Data(data=f"imagefolder:{root}", **settings), model=model, workers=workers)


def test_order_and_labels_are_torchvisions(image_folder):
    data = load(image_folder)
    reference = ImageFolder(image_folder / "train")
    assert list(data.class_names) == reference.classes
    assert [str(image_folder / key) for key in data.train.keys] == [path for path, _ in reference.samples]
    assert data.train.clean_labels.tolist() == reference.targets
    assert len(data.validation) == 12


def test_the_size_is_the_first_images_unless_told(image_folder):
    assert load(image_folder).image_shape == (3, 12, 12)
    assert load(image_folder, size=8).image_shape == (3, 8, 8)
    assert load(image_folder, model="inception_v3").image_shape == (3, 299, 299)


def test_imagenet_resizes_to_256_and_crops_224(image_folder):
    data = datasets.load(Data(data=f"imagenet:{image_folder}", cache="none"), model="resnet18")
    assert (data.train.images.resize, data.train.images.crop) == (256, 224)
    data = datasets.load(Data(data=f"imagenet:{image_folder}", cache="none"), model="inception_v3")
    assert (data.train.images.resize, data.train.images.crop) == (299, 299)


@pytest.mark.parametrize("workers", [0, 2])
def test_cached_and_read_again_are_the_same_pixels(image_folder, workers):
    kept = load(image_folder, cache="host", workers=workers)
    read = load(image_folder, cache="none")
    assert isinstance(kept.train.images, HostPixels)
    assert isinstance(read.train.images, ImageFiles)
    ids = [5, 0, 23]
    assert torch.equal(kept.train.__getitems__(ids)[0], read.train.__getitems__(ids)[0])


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "1", "LA", "RGBA"])
def test_every_colour_mode_becomes_rgb(tmp_path, mode):
    path = tmp_path / ("x.jpg" if mode == "CMYK" else "x.png")
    write_image(path, seed=0, mode=mode)
    image = read_image(File(path), 12, 12)
    assert image.shape == (3, 12, 12)
    assert image.dtype == torch.uint8
    if mode == "L":
        assert torch.equal(image[0], image[2])


def test_a_palette_with_transparency_is_read_without_a_warning(tmp_path):
    image = Image.fromarray(np.arange(144, dtype=np.uint8).reshape(12, 12)).convert("P")
    image.save(tmp_path / "x.png", transparency=b"\x00\x80\xff")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(File(tmp_path / "x.png"), 12, 12).shape == (3, 12, 12)


def test_exif_rotation_is_undone(tmp_path):
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side: turn by 90 degrees clockwise
    Image.fromarray(pixels).save(tmp_path / "x.png", exif=exif)
    image = read_image(File(tmp_path / "x.png"), 8, 8)
    assert image[0, :, 5:].min() == 255
    assert image[0, :, :3].max() == 0


def test_the_short_side_is_resized_and_the_centre_cropped(tmp_path):
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 200
    Image.fromarray(pixels).save(tmp_path / "x.png")
    assert (read_image(File(tmp_path / "x.png"), 10, 10) == 200).all()


def test_val_fraction_holds_out_of_every_class(image_folder):
    for path in (image_folder / "val").rglob("*.png"):
        path.unlink()
    for path in (image_folder / "val").iterdir():
        path.rmdir()
    (image_folder / "val").rmdir()
    data = load(image_folder, val_fraction=0.25)
    assert np.bincount(data.validation.clean_labels).tolist() == [2, 2, 2]
    assert not set(data.train.keys) & set(data.validation.keys)
    assert list(data.train.keys) == sorted(data.train.keys)
    assert data.fingerprint == load(image_folder, val_fraction=0.25).fingerprint
    with pytest.raises(UserError, match="on both sides of --val-fraction"):
        load(image_folder, val_fraction=0.01)


@pytest.mark.parametrize("cache", ["host", "none"])
def test_an_unreadable_image_is_left_out_and_counted_when_asked(image_folder, cache):
    (image_folder / "train/cat/3.png").write_text("no image")
    whole = (image_folder / "train/dog/0.png").read_bytes()
    (image_folder / "train/dog/0.png").write_bytes(whole[: len(whole) // 2])
    data = load(image_folder, on_bad_image="null", cache=cache)
    assert data.train.unreadable.tolist() == [3, 8]
    assert len(data.train) == 24
    assert set(data.train.ids) == set(range(24)) - {3, 8}


def test_an_unreadable_image_stops_with_its_path(image_folder):
    bad = image_folder / "train/cat/3.png"
    bad.write_text("no image")
    with pytest.raises(UserError, match=r"cat/3\.png"):
        load(image_folder, cache="host")
    with pytest.raises(UserError, match=r"cat/3\.png"):
        load(image_folder, cache="host", workers=2)


def test_empty_and_foreign_classes_are_refused(image_folder):
    (image_folder / "val/fox").mkdir()
    with pytest.raises(UserError, match="fox"):
        load(image_folder)
    (image_folder / "train/fox").mkdir()
    with pytest.raises(UserError, match=r"images in .*train/fox"):
        load(image_folder)


def test_the_first_image_may_be_the_bad_one(image_folder):
    (image_folder / "train/cat/0.png").write_text("no image")
    data = load(image_folder, on_bad_image="null")
    assert data.image_shape == (3, 12, 12)
    assert data.train.unreadable.tolist() == [0]


def test_no_readable_image_at_all_is_refused(image_folder):
    for path in (image_folder / "val").rglob("*.png"):
        path.write_text("no image")
    with pytest.raises(UserError, match="a readable image beside"):
        load(image_folder, on_bad_image="null")


def test_sixteen_bits_of_gray_keep_their_shades(tmp_path):
    shades = np.linspace(0, 65535, 144).reshape(12, 12).astype(np.uint16)
    Image.fromarray(shades).save(tmp_path / "x.png")
    image = read_image(File(tmp_path / "x.png"), 12, 12)
    assert np.array_equal(image[0].numpy(), np.rint(shades / 65535 * 255))


def test_pictures_of_the_cropped_size_are_resized_like_others(tmp_path):
    shades = np.tile(np.arange(224, dtype=np.uint8), (224, 1))
    Image.fromarray(shades).save(tmp_path / "x.png")
    image = read_image(File(tmp_path / "x.png"), 256, 224)
    assert image[0, 112, 0] == pytest.approx(14, abs=1)
    assert image[0, 112, -1] == pytest.approx(209, abs=1)
