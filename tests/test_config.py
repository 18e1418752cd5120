import math
import subprocess
import sys
from pathlib import Path

import pytest

from hardness.config import Data, Memorize, Retrain, Split, Track
from hardness.errors import UserError


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (lambda: Track(model="smal_cnn"), "did you mean small_cnn"),
        (lambda: Track(optimizer="lion"), "an optimizer among sgd"),
        (lambda: Track(optimizer="rm3+adamx"), "did you mean adam"),
        (lambda: Track(optimizer="rm4+adam"), "did you mean rm3"),
        (lambda: Track(optimizer="rm3+ra3"), "a plain optimizer after the +; found rm3+ra3"),
        (lambda: Track(optimizer="ra3-scaled+adamw"), "a robust method before the +"),
        (lambda: Track(optimizer="rm3+ra3-scaled"), "a plain optimizer after the +; found rm3+ra3-scaled"),
        (lambda: Track(optimizer="ra3-scaled", momentum=0.9), "momentum 0 with ra3-scaled"),
        (lambda: Track(optimizer="m3+winsorized"), "a plain optimizer after the +"),
        (lambda: Track(optimizer="adamw", momentum=0.9), "no --momentum with adamw"),
        (lambda: Track(optimizer="rm3+sgd", momentum=0.9), "momentum 0 with rm3+sgd"),
        (lambda: Track(data="digit"), "did you mean digits"),
        (lambda: Track(data="digits:x"), "digits alone"),
        (lambda: Track(data="imagefolder"), "a path after imagefolder"),
        (lambda: Track(data="torchvision:MNITS:x"), "did you mean MNIST"),
        (lambda: Track(data="torchvision:MNIST"), "a path after torchvision"),
        (lambda: Track(val_fraction=0.1), "image files only"),
        (lambda: Track(noise=1.5), "--noise within 0..1; found 1.5"),
        (lambda: Track(noise=math.nan), "--noise within 0..1; found nan"),
        (lambda: Track(lr=-1), "a positive --lr"),
        (lambda: Track(lr=math.inf), "a positive --lr"),
        (lambda: Track(epochs=0), "a positive --epochs"),
        (lambda: Track(batch_size=0), "a positive --batch-size"),
        (lambda: Track(momentum=1), "--momentum < 1"),
        (lambda: Track(weight_decay=-1), "--weight-decay of 0 or more"),
        (lambda: Track(workers=-1), "--workers of 0 or more"),
        (lambda: Track(optimizer="rm3", momentum=0.9), "momentum 0 with rm3"),
        (lambda: Memorize(momentum=0.9), "momentum 0 with ra3"),
        (lambda: Memorize(noise=(0.5, 2)), "--noise within 0..1"),
        (lambda: Memorize(noise=()), "at least one of --noise"),
        (lambda: Memorize(optimizers=("sgd", "sgd")), "each of --optimizers once"),
        (lambda: Memorize(lr=0.1, lr_from=(Path("r"),)), "--lr or --lr-from; found both"),
        (lambda: Memorize(seeds=0), "a positive --seeds"),
        (lambda: Retrain(seeds=0), "a positive --seeds"),
        (lambda: Retrain(momentum=-1), "--momentum < 1"),
        (lambda: Retrain(weight_decay=math.nan), "--weight-decay of 0 or more"),
        (lambda: Track(seed=-1), "--seed of 0 or more"),
        (lambda: Track(noise_seed=-1), "--noise-seed of 0 or more"),
        (lambda: Split(seed=-1), "--seed of 0 or more"),
        (lambda: Track(size=99), "--size with image files only"),
        (lambda: Retrain(optimizer="m4"), "did you mean m3"),
        (lambda: Split(quantile=0), "0 < --quantile <= 0.5"),
        (lambda: Split(quantile=0.51), "0 < --quantile <= 0.5"),
        (lambda: Split(quantile=math.nan), "found nan"),
        (lambda: Split(by="first_learnt_epoch"), "did you mean first_learned_epoch"),
        (lambda: Split(name="../x"), "without folders"),
        (lambda: Split(rule="learned-by"), "both sizes"),
        (lambda: Split(test_fraction=1), "0 < --test-fraction < 1"),
        (lambda: Split(controls=0), "a positive --controls; found 0"),
        (lambda: Data(data="imagefolder:/no/such/place"), "none there"),
    ],
)
def test_what_cannot_work_is_refused_when_built(build, told):
    with pytest.raises(UserError) as refused:
        build()
    assert told in str(refused.value)


def test_momentum_is_allowed_when_insisted_upon():
    assert Track(optimizer="m3", momentum=0.9, allow_momentum=True).momentum == 0.9


def test_given_labels_and_noise_are_one_or_the_other(tmp_path):
    path = tmp_path / "labels.csv"
    path.touch()
    with pytest.raises(UserError, match="label noise or --given-labels"):
        Track(given_labels=path, noise=0.1)


def test_neither_help_nor_a_refusal_imports_torch():
    code = """
import sys
from hardness.cli import main
for words in (["--help"], ["track", "--model", "x"], ["track", "--optimizer", "rm3", "--momentum", "0.9"],
              ["split", "--quantile", "2"], ["show", "/no/such"],
              ["track", "--data", "imagefolder:/no/such"]):
    sys.argv = ["hardness", *words]
    try:
        main()
    except SystemExit as leaving:
        assert leaving.code == (0 if words == ["--help"] else 2), words
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
