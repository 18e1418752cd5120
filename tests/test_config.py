import math
import subprocess
import sys
from pathlib import Path

import pytest

from hardness.config import Data
from hardness.settings.memorize import Memorize
from hardness.settings.retrain import Retrain
from hardness.settings.split import Split
from hardness.settings.track import Track
from tests.conftest import refused


@pytest.mark.parametrize(
    ("build", "code", "values"),
    [
        (lambda: Track(model="smal_cnn"), "unknown-name", {"name": "smal_cnn", "near": "small_cnn"}),
        (lambda: Track(optimizer="lion"), "unknown-name", {"name": "lion"}),
        (lambda: Track(optimizer="rm3+adamx"), "unknown-name", {"near": "adam or adamw"}),
        (lambda: Track(optimizer="rm4+adam"), "unknown-name", {"name": "rm4"}),
        (lambda: Track(optimizer="ra3-scaled+adamw"), "unknown-name", {"name": "ra3-scaled"}),
        (lambda: Track(optimizer="rm3+ra3"), "not-a-base-optimizer", {"name": "rm3+ra3"}),
        (lambda: Track(optimizer="rm3+ra3-scaled"), "not-a-base-optimizer", {"name": "rm3+ra3-scaled"}),
        (lambda: Track(optimizer="m3+winsorized"), "not-a-base-optimizer", {"name": "m3+winsorized"}),
        (lambda: Track(optimizer="ra3-scaled", momentum=0.9), "unstable-momentum", {"momentum": 0.9}),
        (lambda: Track(optimizer="rm3+sgd", momentum=0.9), "unstable-momentum", {"optimizer": "rm3+sgd"}),
        (lambda: Track(optimizer="rm3", momentum=0.9), "unstable-momentum", {"optimizer": "rm3"}),
        (lambda: Memorize(momentum=0.9), "unstable-momentum", {"optimizer": "ra3"}),
        (lambda: Track(optimizer="adamw", momentum=0.9), "no-momentum", {"optimizer": "adamw"}),
        (lambda: Track(data="digit"), "unknown-name", {"near": "digits"}),
        (lambda: Track(data="digits:x"), "path-after-digits", {"data": "digits:x"}),
        (lambda: Track(data="imagefolder"), "no-data-path", {"form": "imagefolder:PATH"}),
        (lambda: Track(data="torchvision:MNITS:x"), "unknown-name", {"near": "MNIST"}),
        (lambda: Track(data="torchvision:MNIST"), "no-data-path", {"form": "torchvision:NAME:PATH"}),
        (lambda: Track(val_fraction=0.1), "flag-needs-image-files", {"flag": "--val-fraction"}),
        (lambda: Track(size=99), "flag-needs-image-files", {"flag": "--size"}),
        (lambda: Memorize(noise=()), "no-values", {"flag": "--noise"}),
        (
            lambda: Memorize(optimizers=("sgd", "sgd")),
            "repeated-values",
            {"setting": "--optimizers", "values": "sgd sgd"},
        ),
        (lambda: Memorize(lr=0.1, lr_from=(Path("r"),)), "lr-and-lr-from", {"lr": 0.1}),
        (lambda: Retrain(optimizer="m4"), "unknown-name", {"name": "m4"}),
        (lambda: Split(by="first_learnt_epoch"), "unknown-name", {"name": "first_learnt_epoch"}),
        (lambda: Split(name="../x"), "folder-in-name", {"name": "../x"}),
        (lambda: Split(rule="learned-by"), "no-fold-sizes", {"train_size": None}),
        (lambda: Data(data="imagefolder:/no/such/place"), "no-such-folder", {"folder": "/no/such/place"}),
    ],
)
def test_what_cannot_work_is_refused_when_built(build, code, values):
    with refused(code, **values):
        build()


@pytest.mark.parametrize(
    ("build", "flag", "value"),
    [
        (lambda: Track(noise=1.5), "--noise", 1.5),
        (lambda: Track(lr=-1), "--lr", -1),
        (lambda: Track(lr=math.inf), "--lr", math.inf),
        (lambda: Track(epochs=0), "--epochs", 0),
        (lambda: Track(batch_size=0), "--batch-size", 0),
        (lambda: Track(momentum=1), "--momentum", 1),
        (lambda: Track(weight_decay=-1), "--weight-decay", -1),
        (lambda: Track(workers=-1), "--workers", -1),
        (lambda: Track(seed=-1), "--seed", -1),
        (lambda: Track(noise_seed=-1), "--noise-seed", -1),
        (lambda: Memorize(noise=(0.5, 2)), "--noise", 2),
        (lambda: Memorize(seeds=0), "--seeds", 0),
        (lambda: Retrain(seeds=0), "--seeds", 0),
        (lambda: Retrain(momentum=-1), "--momentum", -1),
        (lambda: Split(seed=-1), "--seed", -1),
        (lambda: Split(quantile=0), "--quantile", 0),
        (lambda: Split(quantile=0.51), "--quantile", 0.51),
        (lambda: Split(test_fraction=1), "--test-fraction", 1),
        (lambda: Split(controls=0), "--controls", 0),
    ],
)
def test_values_out_of_range_are_refused(build, flag, value):
    with refused("out-of-range", flag=flag, value=value):
        build()


@pytest.mark.parametrize(
    ("build", "flag"),
    [
        (lambda: Track(noise=math.nan), "--noise"),
        (lambda: Split(quantile=math.nan), "--quantile"),
        (lambda: Retrain(weight_decay=math.nan), "--weight-decay"),
    ],
)
def test_nan_is_out_of_every_range(build, flag):
    with refused("out-of-range", flag=flag) as caught:
        build()
    assert math.isnan(caught.value.values["value"])


def test_momentum_is_allowed_when_insisted_upon():
    assert Track(optimizer="m3", momentum=0.9, allow_momentum=True).momentum == 0.9


def test_given_labels_and_noise_are_one_or_the_other(tmp_path):
    path = tmp_path / "labels.csv"
    path.touch()
    with refused("noise-and-given-labels", noise=0.1):
        Track(given_labels=path, noise=0.1)


def test_neither_help_nor_a_mistake_imports_what_takes_seconds():
    """Help and errors come at once, because they do not wait for torch; help not even for numpy."""
    code = """
import sys
from hardness.cli import main
for words in (["--help"], ["track", "--model", "x"], ["split", "--quantile", "2"], ["show", "/no/such"],
              ["track", "--data", "imagefolder:/no/such"]):
    sys.argv = ["hardness", *words]
    try:
        main()
    except SystemExit as leaving:
        assert leaving.code == (0 if words == ["--help"] else 2), words
    if words == ["--help"]:
        assert not {"pandas", "pyarrow", "numpy"} & {*sys.modules}
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
