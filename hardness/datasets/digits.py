"""The 1,797 handwritten digits that scikit-learn ships, with a fixed stratified split."""

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from hardness.config import Data
from hardness.datasets.base import DataSet, in_memory, pixel_statistics
from hardness.resources import Resources


def load(place: str, config: Data, *, model: str, resources: Resources) -> DataSet:
    """1,437 for training, 360 for validation, always the same ones."""
    digits = load_digits()
    pixels = torch.from_numpy((digits.images * (255 / 16)).round().astype(np.uint8)).unsqueeze(1)
    labels = torch.from_numpy(digits.target.astype(np.int64))
    train, validation = train_test_split(
        np.arange(len(labels)), test_size=0.2, random_state=0, stratify=digits.target
    )
    mean, std = pixel_statistics(pixels[train])
    return DataSet(
        train=in_memory(pixels[train], labels[train], "train"),
        validation=in_memory(pixels[validation], labels[validation], "val"),
        class_names=[str(name) for name in digits.target_names],
        image_shape=(1, 8, 8),
        mean=mean,
        std=std,
    )
