"""The interface of every data set: (image, given label, example id)."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from hardness.datasets.pixels import HostPixels
from hardness.errors import UserError


class Images(Protocol):
    """Pixels by position: ``images[ids]`` is uint8 (B, C, H, W)."""

    def __getitem__(self, ids: Sequence[int]) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class ImageSet(torch.utils.data.Dataset):
    """Images with labels. An example's id is its position here, also in subsets of it."""

    images: Images
    keys: Sequence[str]
    """A stable name of each example."""
    clean_labels: Tensor
    """(N,) int64."""
    given_labels: Tensor
    """(N,) int64: the labels that the network is trained on."""
    unreadable: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    """int64 ids of images that cannot be read, with --on-bad-image null."""

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def ids(self) -> np.ndarray:
        """int64 ids of the examples that can be read."""
        return np.setdiff1d(np.arange(len(self)), self.unreadable)

    def __getitem__(self, example_id: int) -> tuple[Tensor, Tensor, Tensor]:
        """One (uint8 (C, H, W), label (), id ())."""
        image, label, number = self._gather([example_id])
        return image[0], label[0], number[0]

    def __getitems__(self, ids: Sequence[int]) -> tuple[Tensor, Tensor, Tensor] | UserError:
        """A batch: uint8 (B, C, H, W), int64 (B,), int64 (B,).

        For an unreadable image the error is returned, not raised: raising it in a worker process of a
        ``DataLoader`` would lose its fields. ``hardness.datasets.Loader`` raises it.
        """
        try:
            return self._gather(ids)
        except UserError as error:
            return error

    def _gather(self, ids: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        positions = torch.as_tensor(ids)
        return self.images[ids], self.given_labels[positions], positions

    def with_labels(self, given_labels: Tensor) -> "ImageSet":
        """The same images with other given labels."""
        return replace(self, given_labels=given_labels)


def in_memory(images: Tensor, labels: Tensor, prefix: str) -> ImageSet:
    """An image set over uint8 (N, C, H, W) pixels, with keys ``prefix/00000`` and so on."""
    keys = [f"{prefix}/{index:05d}" for index in range(len(labels))]
    pixels = HostPixels([images.permute(0, 2, 3, 1).contiguous().numpy()], len(images))
    return ImageSet(pixels, keys, labels, labels)


@dataclass(frozen=True)
class Notes:
    """Messages about a data set, collected so that they are printed once, not every time it is opened."""

    lines: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def say(self, line: str) -> None:
        self.lines.append(line)

    def warn(self, warning: str) -> None:
        self.warnings.append(warning)


@dataclass(frozen=True)
class DataSet:
    """A base training set, its validation set, and what a model needs to know about them."""

    train: ImageSet
    validation: ImageSet
    class_names: Sequence[str]
    image_shape: tuple[int, int, int]
    """(C, H, W)."""
    mean: Sequence[float]
    """Per channel, of pixels scaled to 0..1."""
    std: Sequence[float]
    transform: str = "as they are"
    """How images were resized and scaled."""
    pixel_range: tuple[float, float] | None = None
    """The values that became 0 and 255; None if no image has more than 8 bits."""
    parts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Files or folders of ``train`` and ``validation``, and those ``left_out``, if chosen by name."""
    notes: Notes = field(default_factory=Notes)

    def __post_init__(self) -> None:
        if self.num_classes < 2:
            sentence, hint = "The data set has only one class: {name!r}.", "Add images of other classes."
            raise UserError("single-class", sentence, hint, name=self.class_names[0])

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @cached_property
    def fingerprint(self) -> str:
        """Of training keys and class names, not of pixels: it does not depend on how images are stored."""
        digest = hashlib.sha256()
        for name in (*self.class_names, "", *self.train.keys):
            digest.update(name.encode(errors="surrogateescape") + b"\0")
        return digest.hexdigest()[:16]

    def describe(self) -> dict[str, Any]:
        """The entry of the data set in run.json."""
        return {
            "num_train": len(self.train),
            "num_validation": len(self.validation),
            "class_names": list(self.class_names),
            "image_shape": list(self.image_shape),
            "mean": list(self.mean),
            "std": list(self.std),
            "transform": self.transform,
            "pixel_range": self.pixel_range and list(self.pixel_range),
            "parts": {part: list(names) for part, names in self.parts.items()},
        }


def pixel_statistics(images: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel of uint8 (N, C, H, W), scaled to 0..1."""
    scaled = images.double() / 255
    return scaled.mean((0, 2, 3)).tolist(), scaled.std((0, 2, 3)).tolist()
