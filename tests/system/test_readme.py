"""The lines that the README shows a stranger work as they stand."""

import re
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from hardness import datasets, models
from hardness.config import Data
from hardness.recipes.plan import expand
from hardness.recipes.recipe import read

README = Path(__file__).parents[2] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


@pytest.fixture
def names(here) -> dict:
    """What a stranger's loop has: a model, and a loader of images, labels and ids."""
    digits = datasets.load(Data(), model="mlp")
    return {
        "torch": torch,
        "data": digits.train,
        "model": models.build("mlp", digits, seed=0),
        "device": "cpu",
        "loader": DataLoader(digits.train, batch_size=32, collate_fn=lambda batch: batch),
    }


@pytest.mark.parametrize("block", [0, 1], ids=["RM3", "M3"])
def test_an_optimizer_in_a_strangers_loop(names, block):
    for _ in range(3):
        exec(BLOCKS[block], names)
    images, labels, _ = names["data"].__getitems__(range(1437))
    assert (names["model"](images).argmax(1) == labels).float().mean() > 0.8


def test_any_optimizer_made_robust(names):
    lines = re.sub(r"RM3\(.*\)  # or (robust.*)", r"\1", BLOCKS[0].replace("import RM3", "import robust"))
    exec(lines, names)
    assert type(names["optimizer"].base) is torch.optim.AdamW
    images, labels, _ = names["data"].__getitems__(range(1437))
    assert (names["model"](images).argmax(1) == labels).float().mean() > 0.8


def test_a_recorder_in_a_strangers_loop(names):
    names["optimizer"] = torch.optim.SGD(names["model"].parameters(), lr=0.1)
    # Thirty epochs would be long.
    exec(BLOCKS[2].replace("range(30)", "range(3)"), names)
    assert len(names["table"]) == 1437
    assert names["table"]["aum"].notna().all()
    assert set(names["subsets"]["subset"]) >= {"easy", "hard"}


def test_a_loader_in_a_strangers_loop(names):
    lines = BLOCKS[3].replace("packed:data/imagenet.packed", "digits").replace('"cuda"', '"cpu"')
    exec(lines.replace("range(1, 31)", "range(1, 3)"), names)
    assert names["example_ids"].tolist() == list(names["loader"].batches)[-1]
    assert torch.equal(names["data"].train.given_labels[names["example_ids"]], names["labels"])


def test_the_recipe_becomes_as_many_runs_as_it_says(here):
    readme = README.read_text()
    (recipe,) = re.findall(r"```toml\n(.*?)```", readme, re.DOTALL)
    Path("mine.toml").write_text(recipe)
    runs = expand(read(Path("mine.toml")))
    (count,) = re.findall(
        r"Each of these (\d+) runs has a name \(`retrain-seed1-class`\)", README.read_text()
    )
    assert len(runs) == int(count)
    assert "retrain-seed1-class" in runs
