"""torchvision's small data sets: MNIST, FashionMNIST, CIFAR10, CIFAR100."""

from pathlib import Path

import torch
import torchvision

from hardness.config import Data
from hardness.datasets.base import DataSet, ImageSet, in_memory, pixel_statistics
from hardness.errors import UserError
from hardness.resources import Resources


def load(place: str, config: Data, *, model: str, resources: Resources) -> DataSet:
    """``NAME:PATH``. Nothing is fetched unless the user asks (``config.download``)."""
    name, _, root = place.partition(":")
    source, ranks = getattr(torchvision.datasets, name), resources.ranks

    def part(is_train: bool, prefix: str) -> tuple[ImageSet, list[str]]:
        try:
            # The CIFAR files are pickles; torchvision only opens them if their MD5 is the published one.
            images = source(Path(root), train=is_train, download=config.download)
        except (RuntimeError, AssertionError, ValueError, EOFError) as error:
            sentence = "{name} cannot be read from {path} ({reason})."
            hint = "Check the path, or pass --download."
            values = {"name": name, "path": root, "reason": str(error)}
            raise UserError("unreadable-data-set", sentence, hint, **values) from error
        pixels = torch.as_tensor(images.data)
        # MNIST: (N, H, W). CIFAR: (N, H, W, C).
        pixels = pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2).contiguous()
        return in_memory(pixels, torch.as_tensor(images.targets), prefix), images.classes

    # One process fetches, while the others wait.
    if config.download and not ranks.is_first:
        ranks.barrier()
    train, class_names = part(True, "train")
    validation, _ = part(False, "val")
    if config.download and ranks.is_first:
        ranks.barrier()
    pixels = torch.from_numpy(train.images.shards[0]).permute(0, 3, 1, 2)
    mean, std = pixel_statistics(pixels)
    return DataSet(
        train=train,
        validation=validation,
        class_names=class_names,
        image_shape=tuple(pixels.shape[1:]),
        mean=mean,
        std=std,
    )
