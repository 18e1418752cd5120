"""Random crops and flips of a whole batch, on its device."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hardness import seeding
from hardness.ranks import ALONE, Ranks

_SCALE, _RATIO, _TRIES = (0.08, 1.0), (3 / 4, 4 / 3), 10
"""The defaults of torchvision's RandomResizedCrop."""


class CropFlip:
    """For each image, a crop of random area and shape, resized to ``size``, flipped with probability 1/2.

    The distribution of boxes is that of ``torchvision.transforms.v2.RandomResizedCrop`` (Szegedy et al.
    2015, section 6), which draws one box per batch. Here each image has its own box, which depends only on
    seed, epoch, step and position in the global batch (this rank has a slice of it). All crops are sampled
    at once, bilinearly, without antialiasing.
    """

    def __init__(self, size: tuple[int, int], seed: int, ranks: Ranks = ALONE):
        self.size, self.seed, self.ranks = size, seed, ranks

    def __call__(self, images: Tensor, epoch: int, step: int, batch_size: int) -> Tensor:
        """uint8 (B, C, H, W) -> uint8 (B, C, *size); ``batch_size``: summed over ranks."""
        generator = seeding.generator(self.seed, "augment", epoch, step)
        boxes, is_flipped = draw(generator, batch_size, *images.shape[-2:])
        mine = self.ranks.slice(batch_size)
        return crop(images, boxes[mine], is_flipped[mine], self.size)


def draw(
    generator: np.random.Generator, num_images: int, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """-> (boxes float64 (N, 4): top, left, height, width in whole pixels; flips bool (N,))."""
    area = height * width * generator.uniform(*_SCALE, (num_images, _TRIES))
    ratio = np.exp(generator.uniform(*np.log(_RATIO), (num_images, _TRIES)))
    heights, widths = np.round(np.sqrt(area / ratio)), np.round(np.sqrt(area * ratio))
    fits = (heights > 0) & (heights <= height) & (widths > 0) & (widths <= width)
    # The first box that fits, otherwise the largest central one within the allowed shapes.
    first = np.arange(num_images), fits.argmax(1)
    is_whole = ~fits.any(1)
    middle = min(height, round(width / _RATIO[0])), min(width, round(height * _RATIO[1]))
    box_heights = np.where(is_whole, middle[0], heights[first])
    box_widths = np.where(is_whole, middle[1], widths[first])
    where = generator.random((2, num_images))
    tops = np.where(is_whole, (height - box_heights) // 2, np.floor(where[0] * (height - box_heights + 1)))
    lefts = np.where(is_whole, (width - box_widths) // 2, np.floor(where[1] * (width - box_widths + 1)))
    return np.stack([tops, lefts, box_heights, box_widths], 1), generator.random(num_images) < 0.5


def crop(images: Tensor, boxes: np.ndarray, is_flipped: np.ndarray, size: tuple[int, int]) -> Tensor:
    """uint8 (B, C, H, W), boxes (B, 4), flips (B,) -> uint8 (B, C, *size), channels last."""
    height, width = images.shape[-2:]
    tops, lefts, heights, widths = boxes.T
    # An image spans -1 to 1 in grid_sample's coordinates: out = scale * in + shift.
    theta = np.zeros((len(boxes), 2, 3), np.float32)
    theta[:, 0, 0] = widths / width * np.where(is_flipped, -1, 1)
    theta[:, 0, 2] = (2 * lefts + widths) / width - 1
    theta[:, 1, 1] = heights / height
    theta[:, 1, 2] = (2 * tops + heights) / height - 1
    transform = torch.from_numpy(theta)
    if images.is_cuda:
        transform = transform.pin_memory().to(images.device, non_blocking=True)
    grid = F.affine_grid(transform, [len(images), images.shape[1], *size], align_corners=False)
    crops = F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
    return crops.round_().clamp_(0, 255).to(torch.uint8, memory_format=torch.channels_last)
