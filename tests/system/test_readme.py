"""The code in the READMEs works as it is printed."""

import re
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from hardness import datasets, models
from hardness.config import Data

ROOT = Path(__file__).parents[2]


def block(file: str, *words: str) -> str:
    """The one block of Python in a README that has all of those words."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / file).read_text(), re.DOTALL)
    (found,) = [each for each in blocks if all(word in each for word in words)]
    return found


@pytest.fixture
def names(here) -> dict:
    """What the reader's own training loop has: a model, and a loader of images, labels and ids."""
    digits = datasets.load(Data(), model="mlp")
    return {
        "torch": torch,
        "data": digits.train,
        "model": models.build("mlp", digits, seed=0),
        "device": "cpu",
        "loader": DataLoader(digits.train, batch_size=32, collate_fn=lambda batch: batch),
    }


def accuracy(names: dict) -> float:
    images, labels, _ = names["data"].__getitems__(range(1437))
    return (names["model"](images).argmax(1) == labels).float().mean()


RM3, M3 = (block("hardness/README.md", f"import {name}\n") for name in ("RM3", "M3"))
ROBUST = re.sub(r"RM3\(.*\)  # or (robust.*)", r"\1", RM3.replace("import RM3", "import robust"))


@pytest.mark.parametrize("code", [RM3, M3, ROBUST], ids=["RM3", "M3", "robust"])
def test_an_optimizer_in_your_own_loop(names, code):
    for _ in range(2 if code is ROBUST else 3):
        exec(code, names)
    if code is ROBUST:
        assert type(names["optimizer"].base) is torch.optim.AdamW
    assert accuracy(names) > 0.8


def test_a_recorder_in_your_own_loop(names):
    names["optimizer"] = torch.optim.SGD(names["model"].parameters(), lr=0.1)
    # Thirty epochs would take long.
    exec(block("README.md", "import Recorder").replace("range(30)", "range(3)"), names)
    assert len(names["table"]) == 1437
    assert names["table"]["aum"].notna().all()
    assert set(names["subsets"]["subset"]) >= {"easy", "hard"}


def test_a_loader_in_your_own_loop(names):
    code = block("hardness/README.md", "import Loader").replace("packed:data/imagenet.packed", "digits")
    exec(code.replace('"cuda"', '"cpu"').replace("range(1, 31)", "range(1, 3)"), names)
    assert names["example_ids"].tolist() == list(names["loader"].batches)[-1]
    assert torch.equal(names["data"].train.given_labels[names["example_ids"]], names["labels"])
