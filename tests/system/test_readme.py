"""The lines that the README shows a stranger work as they stand."""

import re
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from hardness import datasets, models
from hardness.config import Data

README = Path(__file__).parents[2] / "README.md"


def test_the_lines_for_a_strangers_loop(here):
    (lines,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    digits = datasets.load(Data(), model="mlp")
    names = {
        "torch": torch,
        "data": digits.train,
        "model": models.build("mlp", digits, seed=0),
        "device": "cpu",
        "loader": DataLoader(digits.train, batch_size=256, collate_fn=lambda batch: batch),
    }
    # The loader of the README yields images, labels and ids in this order; thirty epochs would be long.
    exec(lines.replace("range(30)", "range(3)"), names)
    assert len(names["table"]) == 1437
    assert names["table"]["aum"].notna().all()
    assert set(names["subsets"]["subset"]) >= {"easy", "hard"}
