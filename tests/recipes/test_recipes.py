"""The recipes that ship: read, expanded, as published; the first of ImageNet's in miniature."""

import re
from itertools import product
from pathlib import Path

import pytest

from hardness import datasets
from hardness.config import Data
from hardness.recipes import rate
from hardness.recipes.count import num_epochs, passes
from hardness.recipes.plan import expand
from hardness.recipes.recipe import read
from hardness.settings.memorize import Memorize
from hardness.settings.pack import Pack
from hardness.settings.report import Report
from hardness.settings.retrain import Retrain
from hardness.settings.split import Split
from hardness.settings.track import Track
from tests import processes

PIPELINES = Path(__file__).parents[2] / "pipelines"
RECIPES = sorted(path.stem for path in PIPELINES.glob("*.toml") if path.stem != "imagenet")
# Model, schedule of the 90 epochs, and what is done to a picture: arXiv:2003.07422, sections 3 and 4.
PUBLISHED = {
    "imagenet-resnet18": ("resnet18", "step", "short side to 256, centre 224 x 224"),
    "imagenet-vgg13": ("vgg13_bn", "cosine", "short side to 256, centre 224 x 224"),
    "imagenet-inception": ("inception_v3", "cosine", "short side to 299, centre 299 x 299"),
}
IMAGENET = (1_281_167, 50_000, 1000)
MINIATURE = [
    "pack.size=8",
    "all.model=mlp",
    "all.batch_size=8",
    "all.lr=0.01",
    "all.compile=false",
    "track.seed=[0, 1]",
    "split.train_size=7",
    "split.test_size=2",
    "retrain.epochs=2",
    "memorize.epochs=2",
    'memorize.optimizers=[["sgd"], ["m3"]]',
    "memorize.noise=[[0.5]]",
]


@pytest.fixture
def images(here, image_folder):
    """The data that the recipes name, made up."""
    Path("data").mkdir()
    for name in ("imagenet", "tiny-imagenet-20", "tiny-imagenet-20-small"):
        Path("data", name).symlink_to(image_folder)


def of_stage(runs, kind):
    return [run for run in runs.values() if run.stage.entry.load() is kind]


@pytest.mark.parametrize("name", RECIPES)
def test_each_makes_a_plan_that_ends_in_a_report(images, name):
    runs = expand(read(PIPELINES / f"{name}.toml"))
    (report,) = of_stage(runs, Report)
    sources = {each.stage.entry.load() for each in report.depends_on}
    assert {Track, Retrain, Memorize} <= sources
    assert report.output == Path("reports") / name
    assert all(num_epochs(run) > 0 for run in report.depends_on if run.folder)


def test_the_one_of_the_readme_is_one(images):
    (text,) = re.findall(r"```toml\n(.*?)```", (PIPELINES / "README.md").read_text(), re.DOTALL)
    Path("mine.toml").write_text(text.replace("data/mine", "data/imagenet"))
    runs = expand(read(Path("mine.toml")))
    assert "retrain-seed1-class" in runs
    numbers = [len(of_stage(runs, kind)) for kind in (Track, Split, Retrain, Memorize, Report)]
    assert numbers == [3, 6, 6, 2, 1]


@pytest.mark.parametrize("name", PUBLISHED)
def test_those_of_imagenet_are_as_published(images, name):
    model, schedule, transform = PUBLISHED[name]
    runs = expand(read(PIPELINES / f"{name}.toml"))
    (pack,) = of_stage(runs, Pack)
    assert datasets.load(Data(data=pack.config.data, size=pack.config.size)).adapter.transform == transform
    alike = {"batch_size": 256, "lr": 0.1, "weight_decay": 0.0, "momentum": None, "augment": "none"}

    def settings(run):
        return {name: run.settings.get(name, getattr(run.stage.entry.load(), name)) for name in asked}

    asked = [*alike, "model", "schedule", "epochs", "optimizer", "record"]
    track = alike | {
        "model": model,
        "schedule": "constant",
        "epochs": 2,
        "optimizer": "sgdm",
        "record": "eval",
    }
    assert [settings(run) for run in of_stage(runs, Track)] == [track] * 3
    asked = ["rule", "epoch", "train_size", "test_size"]
    split = {"rule": "learned-by", "epoch": 2, "train_size": 500_000, "test_size": 100_000}
    assert [settings(run) for run in of_stage(runs, Split)] == [split] * 3
    asked = ["model", "schedule", "epochs", "optimizer", "lr", "batch_size"]
    retrain = {"model": model, "schedule": schedule, "epochs": 90, "optimizer": None, "lr": 0.1}
    assert [settings(run) for run in of_stage(runs, Retrain)] == [{**retrain, "batch_size": 256}] * 3
    asked = [*alike, "model", "schedule", "epochs"]
    memorize = alike | {"model": model, "schedule": schedule, "epochs": 90}
    assert [settings(run) for run in of_stage(runs, Memorize)] == [memorize] * 18
    trained = {(run.settings["optimizers"], run.settings["noise"]) for run in of_stage(runs, Memorize)}
    optimizers = (("sgd",), ("sgdm",), ("m3",), ("a3",), ("rm3",), ("ra3",))
    assert trained == set(product(optimizers, ((0.0,), (0.5,), (1.0,))))


@pytest.mark.parametrize("name", PUBLISHED)
def test_their_headers_say_what_they_cost(images, name):
    done = [passes(run, *IMAGENET) for run in expand(read(PIPELINES / f"{name}.toml")).values()]
    header = (PIPELINES / "imagenet.toml").read_text().partition("[all]")[0]
    assert f"{sum(each.trained for each in done):,}" in header
    assert f"{sum(each.evaluated for each in done):,}" in header


def test_a_dry_run_shows_the_plan_and_what_it_costs(images, hardness, monkeypatch):
    monkeypatch.setattr(rate, "_SECONDS", 0.01)
    told = hardness("run", PIPELINES / "imagenet-resnet18.toml", "--dry-run")
    assert told.status == 0, told.err
    lines = told.out.splitlines()
    assert "29 runs: 29 to do, about" in lines[0]
    # 36 pictures; of ResNet-18 for three classes 11.2 million weights, with their momentum.
    assert "pack: one run: 1 to do, about" in lines[1]
    assert lines[1].endswith("5.4 MB")
    track = next(line for line in lines if "track-seed0" in line)
    assert 89 < float(track.split()[-2]) < 91
    assert track.endswith("MB")
    assert "memorize: 18 runs: 18 to do, about" in told.out
    assert not Path("runs").exists()


@pytest.mark.slow
def test_imagenet_in_miniature(images):
    words = ["run", PIPELINES / "imagenet-resnet18.toml"]
    for change in MINIATURE:
        words += ["--set", change]
    processes.run(*words, cwd=Path(), check=True, timeout=600)
    assert Path("data/imagenet-224.packed/pack.json").exists()
    stamps = {path.stem for path in Path("runs/imagenet-resnet18/done").iterdir()}
    assert {f"{stage}-seed{seed}" for stage in ("track", "split", "retrain") for seed in (0, 1)} < stamps
    assert len(stamps) == 10
    summary = Path("reports/imagenet-resnet18/summary.md").read_text()
    assert "M3" in summary or "m3" in summary
    assert "10 runs: 10 done" in processes.run(*words, cwd=Path(), check=True).out
