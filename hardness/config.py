"""Settings that several stages share: base classes of their dataclasses, checked when they are built.

The command line's flags are the fields of these dataclasses, and its help is their docstrings. Nothing here
imports torch, so an invalid configuration is rejected at once.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from hardness.checks import (
    check_background,
    check_data,
    check_place,
    require,
    require_fraction,
    require_non_negative,
    require_positive,
    require_range,
)
from hardness.registry import MODELS, OPTIMIZERS, SOURCES, check_model, parse_optimizer


def _one_of(names: Iterable[str]) -> str:
    return f"{' | '.join(names)}."


# Settings given from Python are converted (hardness.api): type checkers see what may be given.
if TYPE_CHECKING:
    AnyPath = str | Path
    Paths, Names, Numbers = Sequence[str | Path], Sequence[str], Sequence[float]
else:
    AnyPath = Path
    Paths, Names, Numbers = tuple[Path, ...], tuple[str, ...], tuple[float, ...]
Schedule = Literal["constant", "step", "cosine"]
OptimizerName = Annotated[str, tyro.conf.arg(help=_one_of([*OPTIMIZERS, "combined, as rm3+adamw"]))]


@dataclass(frozen=True, kw_only=True)
class DataChoice:
    """Which images."""

    data: Annotated[str, tyro.conf.arg(help=_one_of(entry.form for entry in SOURCES.values()))] = "digits"
    size: int | None = None
    """Image height and width. Default: the most common short side, at most 224; packed: as packed."""
    val_fraction: float | None = None
    """Fraction of the training images to hold out, if there are no validation or test images."""
    background: str = "white"
    """Color shown behind transparent pixels: a name or #RRGGBB."""
    pixel_range: tuple[float, float] | None = None
    """More than 8 bits per channel: the values mapped to 0 and 255. Default: of the training images."""
    download: bool = False
    """Download the data set if it is missing (torchvision only)."""
    on_bad_image: Literal["stop", "null"] = "stop"
    """An unreadable image: stop with its path, or skip it and record it as null."""

    def __post_init__(self) -> None:
        check_data(self.data)
        check_place(
            self.data,
            val_fraction=self.val_fraction,
            size=self.size,
            pixel_range=self.pixel_range,
            background=None if self.background == "white" else self.background,
        )
        require_positive(size=self.size)
        check_background(self.background)
        if self.pixel_range is not None:
            low, high = self.pixel_range
            sentence, hint = "--pixel-range needs LOW < HIGH (got {low:g} {high:g}).", "Choose other values."
            holds = -math.inf < low < high < math.inf
            require(holds, "empty-pixel-range", sentence, hint, low=low, high=high)
        if self.val_fraction is not None:
            require_fraction("--val-fraction", self.val_fraction)


@dataclass(frozen=True, kw_only=True)
class Data(DataChoice):
    """Which images, and how they are read."""

    cache: Literal["auto", "device", "host", "none"] = "auto"
    """Keep decoded images on the GPU (device), in memory (host), or not at all. auto: where they fit."""


@dataclass(frozen=True, kw_only=True)
class Workers:
    """How images are decoded."""

    workers: int | None = None
    """Number of parallel image decoders. Default: one per CPU core, at most 16."""

    def __post_init__(self) -> None:
        require_non_negative(workers=self.workers)


@dataclass(frozen=True, kw_only=True)
class GivenLabels:
    """Which labels the network is trained on instead of the clean ones."""

    noise_seed: int = 0
    """Seed of the label noise; the noisy labels depend on nothing else."""
    given_labels: AnyPath | None = None
    """Parquet or CSV with columns example_id, label (class index or name): real noisy labels."""

    def __post_init__(self) -> None:
        require_non_negative(noise_seed=self.noise_seed)
        if self.given_labels is not None:
            sentence, hint = "There is no file {path} for --given-labels.", "Check the path."
            require(
                self.given_labels.is_file(), "no-labels-file", sentence, hint, path=str(self.given_labels)
            )


@dataclass(frozen=True, kw_only=True)
class Training(Workers):
    """How a network is trained."""

    epochs: int = 20
    """Passes over the training examples."""
    lr: float = 0.02
    """Learning rate."""
    batch_size: int = 64
    """Examples per step. An epoch is round(examples / batch size) steps of nearly equal size."""
    momentum: float | None = None
    """Momentum. Default: the optimizer's own (0.9 for sgdm, 0 for the others)."""
    allow_momentum: bool = False
    """Allow momentum with m3, a3, rm3, ra3 and ra3-scaled, which the paper found unstable."""
    weight_decay: float = 0.0
    """Weight decay (L2 penalty), as in the PyTorch optimizer."""
    schedule: Schedule = "constant"
    """Learning rate schedule: constant, step (divided by 10 after each third) or cosine (to zero)."""
    augment: Literal["none", "crop-flip"] = "none"
    """crop-flip: random crops and horizontal flips."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA if available."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """Precision of the network. auto: float32."""
    compile: bool = False
    """Use torch.compile: a minute or more before the first step, then faster steps."""
    resume: bool = False
    """Resume an interrupted run (pass its settings again). Starts a new run if there is none."""
    out: AnyPath | None = None
    """The run's folder. Default: a new one in runs/."""

    def __post_init__(self) -> None:
        Workers.__post_init__(self)
        require_positive(epochs=self.epochs, lr=self.lr, batch_size=self.batch_size)
        require_non_negative(weight_decay=self.weight_decay)
        holds = self.momentum is None or 0 <= self.momentum < 1
        require_range(holds, "--momentum", "at least 0 and below 1", self.momentum)

    @staticmethod
    def output(settings: Mapping[str, Any]) -> Path:
        """The run's folder."""
        return settings["out"]

    @property
    def compute_precision(self) -> str:
        """auto is float32 on every device, so that the same command gives the same results."""
        return "float32" if self.precision == "auto" else self.precision

    def _check_optimizer(self, name: str) -> None:
        method, entry = parse_optimizer(name)
        values = {"optimizer": name, "momentum": self.momentum}
        holds = entry.compiles or not self.compile
        sentence = "{optimizer} does not work with --compile."
        require(holds, "winsorized-compiled", sentence, "Remove it.", **values)
        sentence = "{optimizer} does not take --momentum (got {momentum})."
        holds = self.momentum is None or entry.takes_momentum
        require(holds, "no-momentum", sentence, "Remove it.", **values)
        sentence = "{optimizer} is unstable with momentum, according to the paper (got {momentum})."
        holds = not self.momentum or self.allow_momentum or not (method or entry.is_robust)
        hint = "Remove --momentum, or add --allow-momentum to use it anyway."
        require(holds, "unstable-momentum", sentence, hint, **values)


@dataclass(frozen=True, kw_only=True)
class Network:
    """Which network is trained."""

    model: Annotated[
        str, tyro.conf.arg(help=_one_of([*MODELS, "any torchvision classifier, e.g. resnet18"]))
    ] = "mlp"
    stem: Literal["standard", "small"] = "standard"
    """small: ResNets start with a 3 x 3 convolution of stride 1 and no max-pooling (32 to 64 pixels)."""

    def __post_init__(self) -> None:
        check_model(self.model)


def check_sample(size: int) -> None:
    """``--coherence-sample``."""
    require_range(size > 1, "--coherence-sample", "2 or more", size)
