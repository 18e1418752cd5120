"""Crops and flips of a batch agree with torchvision's for single images."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from hardness.datasets.augment import CropFlip, crop, draw
from hardness.datasets.images import ImageAdapter
from hardness.ranks import Ranks


def batch(num_images=6, height=40, width=32):
    generator = np.random.default_rng(0)
    small = torch.from_numpy(generator.integers(0, 256, (num_images, 3, 10, 8), dtype=np.uint8))
    # Smooth, like photographs.
    return F.resize(small, [height, width], antialias=True)


@settings(max_examples=50)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 9))
def test_boxes_lie_inside(height, width, seed):
    boxes, is_flipped = draw(np.random.default_rng(seed), 40, height, width)
    tops, lefts, heights, widths = boxes.T
    assert boxes.shape == (40, 4)
    assert is_flipped.shape == (40,)
    assert (boxes == np.floor(boxes)).all()
    assert (tops >= 0).all()
    assert (lefts >= 0).all()
    assert ((heights >= 1) & (tops + heights <= height)).all()
    assert ((widths >= 1) & (lefts + widths <= width)).all()


def test_boxes_have_torchvisions_distribution():
    reference = v2.RandomResizedCrop(224)
    image = torch.zeros(3, 200, 300)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = [reference.make_params([image]) for _ in range(4000)]
    ours, is_flipped = draw(np.random.default_rng(0), 4000, 200, 300)
    for column, name in enumerate(("top", "left", "height", "width")):
        assert stats.ks_2samp(ours[:, column], [params[name] for params in theirs]).pvalue > 1e-3, name
    assert abs(is_flipped.mean() - 0.5) < 0.04


def test_a_very_long_image_falls_back_to_a_central_crop():
    boxes, _ = draw(np.random.default_rng(0), 200, 10, 1000)
    assert [0, 493, 10, 13] in boxes.astype(int).tolist()


@pytest.mark.parametrize("is_flipped", [False, True])
def test_crops_agree_with_torchvisions(is_flipped):
    images, size = batch(), (20, 24)
    boxes = np.array(
        [[3, 5, 20, 24], [0, 0, 40, 32], [10, 2, 25, 28], [7, 7, 12, 10], [20, 8, 20, 24], [1, 1, 38, 30]]
    )
    found = crop(images, boxes, np.full(6, is_flipped), size)
    assert found.dtype == torch.uint8
    assert found.is_contiguous(memory_format=torch.channels_last)
    for image, box, ours in zip(images, boxes.tolist(), found, strict=True):
        theirs = F.resized_crop(image, *box, list(size), antialias=False)
        theirs = F.horizontal_flip(theirs) if is_flipped else theirs
        difference = (ours.int() - theirs.int()).abs()
        # At the border, theirs repeats the crop's last pixels and ours uses the image beyond them.
        assert difference[:, 2:-2, 2:-2].max() <= 1
        assert difference.float().mean() < 1.5
    # A box of the output size is copied exactly.
    cut_out = F.horizontal_flip(images[0, :, 3:23, 5:29]) if is_flipped else images[0, :, 3:23, 5:29]
    assert torch.equal(found[0], cut_out)


def test_crops_depend_on_seed_epoch_step_and_position():
    images = batch()
    augment = CropFlip((16, 16), seed=1)
    first = augment(images, 1, 0, 6)
    assert torch.equal(first, augment(images, 1, 0, 6))
    for epoch, step in ((2, 0), (1, 1)):
        assert not torch.equal(first, augment(images, epoch, step, 6))
    assert not torch.equal(first, CropFlip((16, 16), seed=2)(images, 1, 0, 6))
    same = augment(images[:1].expand(6, -1, -1, -1), 1, 0, 6)
    assert not torch.equal(same[0], same[1])


def test_ranks_make_the_same_crops_as_one_process():
    images, augment = batch(), CropFlip((16, 16), seed=1)
    parts = []
    for ranks in (Ranks(0, 2), Ranks(1, 2)):
        parts.append(CropFlip((16, 16), 1, ranks)(images[ranks.slice(5)], 3, 7, 5))
    assert torch.equal(torch.cat(parts), augment(images[:5], 3, 7, 5))


def test_augmentations_by_name():
    adapter = ImageAdapter((3, 8, 9), [0.5], [1.0])
    assert adapter.augmentation("none", 0) is None
    assert adapter.augmentation("crop-flip", 0).size == (8, 9)
