"""The code that the READMEs show works as it is."""

import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.ensemble import GradientBoostingClassifier
from torch.utils.data import DataLoader, TensorDataset

from hardness import Recorder, datasets, memorize, models, retrain
from hardness.config import Data
from hardness.dynamics import store
from hardness.recipes.plan import expand
from hardness.recipes.recipe import read
from hardness.settings.split import Split
from hardness.stages.split import split as split_in_folder
from hardness.training.step import train_step

ROOT = Path(__file__).parents[2]


def blocks(readme: str, language: str = "python") -> list[str]:
    """Also those in lists, which are indented."""
    found = re.findall(rf"^ *```{language}\n(.*?)```", (ROOT / readme).read_text(), re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(block) for block in found]


(RECORDER,) = blocks("README.md")
RM3, M3, OWN, IDS, PASS, STAGED, STAGES, LOADER = blocks("hardness/README.md")


@pytest.fixture
def names(here) -> dict:
    """What a training loop has: a model, and a loader of images, labels and ids."""
    digits = datasets.load(Data(), model="mlp")
    return {
        "torch": torch,
        "data": digits.train,
        "model": models.build("mlp", digits, seed=0),
        "device": "cpu",
        "loader": DataLoader(digits.train, batch_size=32, collate_fn=lambda batch: batch),
    }


@pytest.mark.parametrize("block", [RM3, M3], ids=["RM3", "M3"])
def test_an_optimizer_in_your_own_loop(names, block):
    for _ in range(3):
        exec(block, names)
    images, labels, _ = names["data"].__getitems__(range(1437))
    assert (names["model"](images).argmax(1) == labels).float().mean() > 0.8


def test_any_optimizer_made_robust(names):
    exec(re.sub(r"RM3\(.*\)  # or (robust.*)", r"\1", RM3.replace("import RM3", "import robust")), names)
    assert type(names["optimizer"].base) is torch.optim.AdamW
    images, labels, _ = names["data"].__getitems__(range(1437))
    assert (names["model"](images).argmax(1) == labels).float().mean() > 0.8


def test_a_recorder_in_your_own_loop(names):
    names["optimizer"] = torch.optim.SGD(names["model"].parameters(), lr=0.1)
    # Thirty epochs would take long.
    exec(RECORDER.replace("range(30)", "range(3)"), names)
    assert len(names["table"]) == 1437
    assert names["table"]["aum"].notna().all()
    assert set(names["subsets"]["subset"]) >= {"easy", "hard"}


def test_ids_and_an_evaluation_pass_in_your_own_loop(names, here):
    labels = torch.arange(90) % 10
    names |= {"DataLoader": DataLoader, "dataset": TensorDataset(torch.rand(90, 64), labels)}
    exec(IDS, names)
    names["model"] = torch.nn.Linear(64, 10)
    with Recorder("runs/mine", num_examples=90) as names["recorder"]:
        exec(PASS, names)
    assert np.array_equal(store.read_epoch(Path("runs/mine"), 1).given_label, labels)


def test_boosting_in_scikit_learn(here):
    X, y = load_iris(return_X_y=True)
    names = {"GradientBoostingClassifier": GradientBoostingClassifier, "Recorder": Recorder, "X": X, "y": y}
    exec(STAGED, names)
    assert len(store.recorded_epochs(Path("runs/boosting"))) == 100


def test_retraining_and_memorization_of_your_own_model(here):
    names = {"torch": torch, "train_step": train_step, "retrain": retrain, "memorize": memorize}
    X, y = (torch.as_tensor(each) for each in load_iris(return_X_y=True))
    names |= {"X": X.float(), "build_model": lambda: torch.nn.Linear(4, 3)}
    with Recorder("runs/mine", num_examples=150) as recorder:
        recorder.update(torch.arange(150), X[:, :3], y)
        recorder.end_epoch()
    split_in_folder(Split(run=(Path("runs/mine"),), by="mean_loss", balance="class"))
    exec(OWN, names)
    assert {path.name for path in Path("runs").iterdir()} == {"mine", "retrain-1", "memorize-1"}


def test_stages_from_python(names, tracked, here):
    (here / "runs").mkdir()
    (here / "runs/mine").symlink_to(tracked)
    exec(STAGES.replace("epochs=5", "epochs=1"), names)
    assert (here / "reports/mine/index.html").is_file()


def test_a_loader_in_your_own_loop(names):
    lines = LOADER.replace("packed:data/imagenet.packed", "digits").replace('"cuda"', '"cpu"')
    exec(lines.replace("range(1, 31)", "range(1, 3)"), names)
    assert names["example_ids"].tolist() == list(names["loader"].batches)[-1]
    assert torch.equal(names["data"].train.given_labels[names["example_ids"]], names["labels"])


def test_the_recipe_becomes_the_runs_that_it_says(here):
    (recipe,) = blocks("pipelines/README.md", "toml")
    Path("data/mine/train").mkdir(parents=True)
    Path("data/mine/val").mkdir()
    Path("mine.toml").write_text(recipe)
    assert "retrain-seed1-class" in expand(read(Path("mine.toml")))


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130
