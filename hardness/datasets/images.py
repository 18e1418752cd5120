"""What is special about images: how they become a network's input, and what can be done with them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.transforms.v2.functional import center_crop

from hardness.datasets.augment import CropFlip
from hardness.datasets.examples import DataSet, Examples
from hardness.datasets.pixels import HostPixels
from hardness.errors import UserError
from hardness.ranks import ALONE, Ranks


@dataclass(frozen=True)
class ImageAdapter:
    """The adapter of a data set of images, whose inputs are uint8 (B, C, H, W)."""

    input_shape: tuple[int, int, int]
    """(C, H, W) of what the network takes; larger images are cropped."""
    mean: Sequence[float]
    """Per channel, of pixels scaled to 0..1."""
    std: Sequence[float]
    transform: str = "as they are"
    """How images were resized and scaled."""
    pixel_range: tuple[float, float] | None = None
    """The values that became 0 and 255; None if no image has more than 8 bits."""

    def describe(self) -> dict[str, Any]:
        """Its entries in run.json."""
        return {
            "image_shape": list(self.input_shape),
            "mean": list(self.mean),
            "std": list(self.std),
            "transform": self.transform,
            "pixel_range": self.pixel_range and list(self.pixel_range),
        }

    def random_inputs(self, batch_size: int, device: torch.device) -> Tensor:
        """To measure a network's speed."""
        return torch.randint(256, (batch_size, *self.input_shape), dtype=torch.uint8, device=device)

    def center(self, images: Tensor) -> Tensor:
        """uint8 (B, C, H, W) -> (B, *input_shape)."""
        size = list(self.input_shape[1:])
        return images if list(images.shape[-2:]) == size else center_crop(images, size)

    def augmentation(self, name: str, seed: int, ranks: Ranks = ALONE) -> CropFlip | None:
        """The augmentation that ``--augment`` names."""
        return CropFlip(self.input_shape[1:], seed, ranks) if name == "crop-flip" else None

    def near_duplicates(self, examples: Examples, workers: int) -> np.ndarray:
        """int64 (N,): the number of each example's group of near-duplicates."""
        from hardness.datasets.near_duplicates import clusters

        return clusters(examples, workers)

    def network(
        self, layers: nn.Module, name: str, precision: str, channels: int | None = None
    ) -> "ImageNetwork":
        """``layers`` for images; ``channels``: of the layers' input, if not those of the images.

        Raises ``UserError`` if the images are too small for it.
        """
        normalize = Normalize(self.mean, self.std, channels or self.input_shape[0])
        model = ImageNetwork(normalize, layers, adapter=self, precision=precision)
        model = model.to(memory_format=torch.channels_last)
        try:
            with torch.no_grad():
                model.eval()(torch.zeros(1, *self.input_shape, dtype=torch.uint8))
        except (RuntimeError, AssertionError) as error:
            sentence = "Images of {height} x {width} pixels are too small for {model} ({reason})."
            hint = "Choose another --model, or a larger --size for image folders."
            _, height, width = self.input_shape
            values = {"height": height, "width": width, "model": name, "reason": str(error)}
            raise UserError("image-too-small", sentence, hint, **values) from error
        return model


class Normalize(nn.Module):
    """uint8 (B, C, H, W) -> float32 with mean 0 and standard deviation 1 per channel.

    A single channel is repeated to ``out_channels``, since torchvision's networks take three.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], out_channels: int):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))
        self.out_channels = out_channels

    def forward(self, images: Tensor) -> Tensor:
        # In place in one copy: allocating memory costs as much as the arithmetic.
        scaled = images.to(torch.float32, copy=True).div_(255).sub_(self.mean).div_(self.std)
        # Convolutions are faster with channels last, on CPUs (1.6 times for small_cnn here) and on GPUs.
        # permute() and contiguous(), because vmap does not support memory formats.
        last = scaled.expand(-1, self.out_channels, -1, -1).permute(0, 2, 3, 1).contiguous()
        return last.permute(0, 3, 1, 2)


class ImageNetwork(nn.Sequential):
    """uint8 (B, C, H, W) -> logits (B, classes), float32 at any ``precision`` inside.

    It normalizes and crops its own input, so that checkpoints are complete and the training step is simple.
    """

    def __init__(self, *layers: nn.Module, adapter: ImageAdapter, precision: str):
        super().__init__(*layers)
        self.adapter, self.precision = adapter, precision

    def forward(self, images: Tensor) -> Tensor:
        images = self.adapter.center(images)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return super().forward(images).float()


def in_memory(images: Tensor, labels: Tensor, prefix: str) -> Examples:
    """Examples of uint8 (N, C, H, W) pixels, with keys ``prefix/00000`` and so on."""
    keys = [f"{prefix}/{index:05d}" for index in range(len(labels))]
    pixels = HostPixels([images.permute(0, 2, 3, 1).contiguous().numpy()], len(images))
    return Examples(pixels, keys, labels, labels)


def data_set(
    train: tuple[Tensor, Tensor], validation: tuple[Tensor, Tensor], class_names: Sequence[str]
) -> DataSet:
    """The data set of two pairs of pixels uint8 (N, C, H, W) and labels int64 (N,)."""
    adapter = ImageAdapter(tuple(train[0].shape[1:]), *pixel_statistics(train[0]))
    return DataSet(in_memory(*train, "train"), in_memory(*validation, "val"), class_names, adapter)


def pixel_statistics(images: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel of uint8 (N, C, H, W), scaled to 0..1."""
    scaled = images.double() / 255
    return scaled.mean((0, 2, 3)).tolist(), scaled.std((0, 2, 3)).tolist()
