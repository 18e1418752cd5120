import os
import shutil
import unicodedata
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

from hardness import datasets
from hardness.config import Data
from hardness.datasets.decoding import ImageFiles, read_image
from hardness.datasets.pixels import HostPixels
from hardness.datasets.source import File
from tests.conftest import refused, write_image
from tests.datasets.archives import encoded


def load(root, model="small_cnn", workers=0, **settings):
    return datasets.load(Data(data=f"imagefolder:{root}", **settings), model=model, workers=workers)


def test_order_and_labels_are_the_same_as_in_torchvision(image_folder):
    data = load(image_folder)
    reference = ImageFolder(image_folder / "train")
    assert list(data.class_names) == reference.classes
    assert [str(image_folder / key) for key in data.train.keys] == [path for path, _ in reference.samples]
    assert data.train.clean_labels.tolist() == reference.targets
    assert len(data.validation) == 12


def test_the_size_is_that_of_the_images_unless_configured(image_folder):
    assert load(image_folder).adapter.input_shape == (3, 12, 12)
    assert load(image_folder, size=8).adapter.input_shape == (3, 8, 8)
    assert load(image_folder, model="inception_v3").adapter.input_shape == (3, 299, 299)


def test_imagenet_resizes_to_256_and_crops_224(image_folder):
    data = datasets.load(Data(data=f"imagenet:{image_folder}", cache="none"), model="resnet18")
    assert (data.train.inputs.resize, data.train.inputs.crop) == (256, 224)
    data = datasets.load(Data(data=f"imagenet:{image_folder}", cache="none"), model="inception_v3")
    assert (data.train.inputs.resize, data.train.inputs.crop) == (299, 299)


@pytest.mark.parametrize("workers", [0, 2])
def test_cached_and_decoded_pixels_are_equal(image_folder, workers):
    kept = load(image_folder, cache="host", workers=workers)
    read = load(image_folder, cache="none")
    assert isinstance(kept.train.inputs, HostPixels)
    assert isinstance(read.train.inputs, ImageFiles)
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
    with refused("val-fraction-too-extreme", val_fraction=0.01):
        load(image_folder, val_fraction=0.01)


@pytest.mark.parametrize("cache", ["host", "none"])
def test_unreadable_images_can_be_skipped(image_folder, cache):
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
    for workers in (0, 2):
        with refused("unreadable-image", path=str(bad)):
            load(image_folder, cache="host", workers=workers)


def test_empty_class_folders_are_refused(image_folder):
    (image_folder / "val/fox").mkdir()
    with refused("no-images", path=str(image_folder / "val/fox")):
        load(image_folder)
    (image_folder / "train/fox").mkdir()
    with refused("no-images", path=str(image_folder / "train/fox")):
        load(image_folder)


def test_a_folder_without_class_folders_is_refused(image_folder):
    for part in ("train", "val"):
        shutil.rmtree(image_folder / part)
        put(image_folder, f"{part}/0.png")
    with refused("no-class-folders", path=str(image_folder / "train")):
        load(image_folder)


def test_the_first_image_may_be_unreadable(image_folder):
    (image_folder / "train/cat/0.png").write_text("no image")
    data = load(image_folder, on_bad_image="null")
    assert data.adapter.input_shape == (3, 12, 12)
    assert data.train.unreadable.tolist() == [0]


def test_a_part_without_a_readable_image_is_refused(image_folder):
    for path in (image_folder / "val").rglob("*.png"):
        path.write_text("no image")
    with refused("no-readable-image", num_images=12, path=str(image_folder / "val/cat/0.png")):
        load(image_folder, on_bad_image="null")


def test_sixteen_bits_of_gray_keep_their_shades(tmp_path):
    shades = np.linspace(0, 65535, 144).reshape(12, 12).astype(np.uint16)
    Image.fromarray(shades).save(tmp_path / "x.png")
    image = read_image(File(tmp_path / "x.png"), 12, 12)
    assert np.array_equal(image[0].numpy(), np.rint(shades / 65535 * 255))


def test_images_of_the_cropped_size_are_resized_like_others(tmp_path):
    shades = np.tile(np.arange(224, dtype=np.uint8), (224, 1))
    Image.fromarray(shades).save(tmp_path / "x.png")
    image = read_image(File(tmp_path / "x.png"), 256, 224)
    assert image[0, 112, 0] == pytest.approx(14, abs=1)
    assert image[0, 112, -1] == pytest.approx(209, abs=1)


def put(root, *names, image=None):
    """Write an image, or other content, to each path."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image if image is not None else encoded())


def test_hidden_files_and_folders_are_skipped(image_folder, capsys):
    expected = load(image_folder).fingerprint
    capsys.readouterr()
    put(image_folder, "train/.ipynb_checkpoints/0-checkpoint.png", "train/cat/.ipynb_checkpoints/0.png")
    put(image_folder, "train/cat/@eaDir/0.png/thumb.jpg", "val/__MACOSX/cat/._0.png", "val/dog/._0.png")
    put(image_folder, "train/cat/Thumbs.db", "train/.DS_Store", ".DS_Store", image=b"x")
    assert load(image_folder).fingerprint == expected
    printed = capsys.readouterr()
    assert "hidden files and folders: 8 (" in printed.out
    assert printed.err == ""


def test_skipped_files_are_counted_by_extension(image_folder, capsys):
    put(
        image_folder,
        "train/cat/a.heic",
        "train/cat/b.HEIC",
        "train/classes.txt",
        "val/dog/LICENSE",
        image=b"x",
    )
    put(image_folder, "train/loose.png", "loose.png")
    assert len(load(image_folder).train) == 24
    warned = capsys.readouterr().err
    assert "not images: 4 (.heic: 2, .txt: 1, no extension: 1)" in warned
    assert "outside class folders: 2 (" in warned


@pytest.mark.parametrize(("extension", "kind"), [(".gif", "GIF"), (".jfif", "JPEG"), (".avif", "AVIF")])
def test_other_kinds_of_images(image_folder, extension, kind):
    image = encoded(200, kind)
    put(image_folder, f"train/cat/a{extension}", f"train/cat/b{extension.upper()}", image=image)
    data = load(image_folder)
    assert [key for key in data.train.keys if extension in key.lower()] == [
        f"train/cat/a{extension}",
        f"train/cat/b{extension.upper()}",
    ]
    assert abs(data.train.inputs[[8]].float().mean() - 200) < 5


def test_the_first_frame_of_an_animation_is_read(tmp_path):
    frames = [Image.new("RGB", (8, 8), (level, 0, 0)) for level in (250, 10, 20)]
    for name in ("x.gif", "x.webp"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], lossless=True)
        assert read_image(File(tmp_path / name), 8, 8)[0].min() > 245


def test_links_are_followed(image_folder, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    (image_folder / "train/cat").rename(elsewhere)
    (image_folder / "train/cat").symlink_to(elsewhere)
    (elsewhere / "0.png").rename(tmp_path / "0.png")
    (elsewhere / "0.png").symlink_to(tmp_path / "0.png")
    data = load(image_folder)
    assert list(data.train.keys)[:2] == ["train/cat/0.png", "train/cat/1.png"]
    assert len(data.train) == 24


@pytest.mark.parametrize(
    ("link", "target"),
    [("train/fox", "dog"), ("train/cat/again", "."), ("train/cat/up", "../.."), ("train/cat/dog", "../dog")],
)
def test_the_same_folder_twice_is_refused(image_folder, link, target):
    (image_folder / link).symlink_to(target)
    with refused("same-folder-twice"):
        load(image_folder)


def test_validation_that_is_training_is_refused(image_folder):
    (image_folder / "val").rename(image_folder / "away")
    (image_folder / "val").symlink_to("train")
    with refused("same-folder-twice", path=str(image_folder / "val"), first=str(image_folder / "train")):
        load(image_folder)


def test_a_broken_link_is_an_unreadable_image(image_folder):
    (image_folder / "train/cat/x.png").symlink_to("nowhere.png")
    (image_folder / "train/cat/y.png").symlink_to("y.png")
    with refused("unreadable-image", path=str(image_folder / "train/cat/x.png")):
        load(image_folder)
    assert load(image_folder, on_bad_image="null").train.unreadable.tolist() == [8, 9]


def test_a_pipe_is_not_an_image(image_folder, capsys):
    os.mkfifo(image_folder / "train/cat/x.png")
    (image_folder / "train/cat/y.png").symlink_to("x.png")
    assert len(load(image_folder).train) == 24
    assert "not images: 2 (.png: 2)" in capsys.readouterr().err


def test_class_names_are_unicode_normalized(image_folder, capsys):
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    (image_folder / "train/cat").rename(image_folder / "train" / composed)
    (image_folder / "val/cat").rename(image_folder / "val" / decomposed)
    data = load(image_folder)
    assert data.class_names == [composed, "dog", "eel"]
    assert data.validation.clean_labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert data.validation.keys[0] == f"val/{decomposed}/0.png"
    assert capsys.readouterr().out.count("café") == 1
    put(image_folder, f"train/{decomposed}/9.png")
    assert load(image_folder).train.clean_labels.tolist() == [0] * 9 + [1] * 8 + [2] * 8


@pytest.mark.parametrize(
    "names", [("training", "validation"), ("partial-train", "partial-val"), ("train", "dev")]
)
def test_a_word_in_a_folder_name_determines_the_part(image_folder, names):
    for old, new in zip(("train", "val"), names, strict=True):
        (image_folder / old).rename(image_folder / new)
    data = load(image_folder)
    assert (len(data.train), len(data.validation)) == (24, 12)
    assert data.train.keys[0] == f"{names[0]}/cat/0.png"
    assert data.describe()["parts"] == {"train": [names[0]], "validation": [names[1]], "left_out": []}
    with refused("val-images-and-fraction", val_fraction=0.25):
        load(image_folder, val_fraction=0.25)


def test_test_images_are_not_used_or_serve_for_validation(image_folder, capsys):
    put(image_folder, "test/0001.png", "extra/1.png")
    data = load(image_folder)
    assert (len(data.train), len(data.validation)) == (24, 12)
    assert data.parts["left_out"] == ["test"]
    printed = capsys.readouterr()
    assert "test images are not used (test)" in printed.out
    assert "warning: skipped folders" in printed.err
    assert ": extra" in printed.err
    (image_folder / "test/0001.png").unlink()
    (image_folder / "test").rmdir()
    (image_folder / "val").rename(image_folder / "test")
    assert load(image_folder).parts["validation"] == ["test"]


def test_two_parts_in_a_name_are_refused(image_folder):
    (image_folder / "train-val").mkdir()
    with refused("several-parts-in-name", name="train-val", parts="train and val"):
        load(image_folder)


def test_classes_may_be_named_like_parts(image_folder):
    for part in ("train", "val"):
        (image_folder / part / "cat").rename(image_folder / part / "train")
        (image_folder / part / "dog").rename(image_folder / part / "test tube")
    data = load(image_folder)
    assert data.class_names == ["eel", "test tube", "train"]
    assert len(data.train) == 24


def test_a_folder_that_looks_like_a_pattern(image_folder):
    image_folder.rename(image_folder.with_name("images[1]*"))
    assert len(load(image_folder.with_name("images[1]*")).train) == 24


def test_classes_must_have_training_images(image_folder, capsys):
    shutil.rmtree(image_folder / "val/eel")
    load(image_folder)
    assert "warning: classes without validation images: 1 of 3 (eel)" in capsys.readouterr().err
    put(image_folder, "val/fox/0.png")
    with refused("class-only-in-validation", classes="1 of 4 (fox)"):
        load(image_folder)
