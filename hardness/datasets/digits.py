"""The 1,797 handwritten digits that scikit-learn ships, with a fixed stratified split."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hardness.checks import require
from hardness.config import Data
from hardness.datasets.source import Source
from hardness.registry import SOURCES

if TYPE_CHECKING:
    from hardness.datasets.examples import DataSet
    from hardness.resources import Resources


@SOURCES.register("digits", syntax="")
class Digits(Source):
    """1,797 digits of 8 x 8 pixels, from scikit-learn; always the same 360 for validation."""

    def check_syntax(self) -> None:
        sentence, data = "digits takes no path (got {data}).", f"digits:{self.place}"
        require(not self.place, "path-after-digits", sentence, "Write --data digits.", data=data)

    @property
    def packed_folder(self) -> Path:
        return Path("data/digits.packed")

    def load(self, config: Data, model: str, resources: "Resources") -> "DataSet":
        import torch
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        from hardness.datasets.images import data_set

        digits = load_digits()
        pixels = torch.from_numpy((digits.images * (255 / 16)).round().astype(np.uint8)).unsqueeze(1)
        labels = torch.from_numpy(digits.target.astype(np.int64))
        ids = np.arange(len(labels))
        parts = train_test_split(ids, test_size=0.2, random_state=0, stratify=digits.target)
        return data_set(*((pixels[ids], labels[ids]) for ids in parts), [*map(str, digits.target_names)])
