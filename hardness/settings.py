"""What several stages can be told: the parts of which ``hardness.config`` puts its dataclasses together."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hardness.checks import (
    check_background,
    check_data,
    check_place,
    check_seed,
    require,
    require_fraction,
    require_positive,
)
from hardness.errors import UserError
from hardness.registry import check_model, parse_optimizer

Schedule = Literal["constant", "step", "cosine"]


@dataclass(frozen=True, kw_only=True)
class Source:
    """Which images."""

    data: str = "digits"
    """digits | imagefolder:, imagenet: or packed:PATH | tar: or parquet:PATTERN | torchvision:NAME:PATH."""
    size: int | None = None
    """Image height and width. Default: the most common short side, at most 224; packed: as packed."""
    val_fraction: float | None = None
    """Fraction of the training images to hold out, if there are no validation or test images."""
    background: str = "white"
    """Color shown behind transparent pixels: a name or #RRGGBB."""
    pixel_range: tuple[float, float] | None = None
    """More than 8 bits per channel: the values mapped to 0 and 255. Default: of the training images."""
    download: bool = False
    """torchvision's data sets: fetch the files if they aren't there."""
    on_bad_image: Literal["stop", "null"] = "stop"
    """An image that can't be read: stop and name it, or leave it out and record it as null."""

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
            is_range = -math.inf < low < high < math.inf
            require(is_range, "--pixel-range LOW HIGH, LOW below HIGH", f"{low:g} {high:g}", "choose others")
        if self.val_fraction is not None:
            require_fraction("--val-fraction", self.val_fraction)


@dataclass(frozen=True, kw_only=True)
class Data(Source):
    """Which images, and how they are read."""

    cache: Literal["auto", "device", "host", "none"] = "auto"
    """Keep pixels on the GPU (device), in memory (host), or in neither. auto: where they leave room."""


@dataclass(frozen=True, kw_only=True)
class Workers:
    """How images are decoded."""

    workers: int | None = None
    """How many images are decoded at a time. Default: one a core, at most 16."""

    def __post_init__(self) -> None:
        require(self.workers is None or self.workers >= 0, "--workers of 0 or more", self.workers, "mend it")


@dataclass(frozen=True, kw_only=True)
class GivenLabels:
    """Which labels are given to the network instead of the clean ones."""

    noise_seed: int = 0
    """Seed of the label noise; the wrong labels depend on it alone."""
    given_labels: Path | None = None
    """Parquet or CSV with columns example_id, label (class index or name): real noisy labels."""

    def __post_init__(self) -> None:
        check_seed(noise_seed=self.noise_seed)
        if self.given_labels is not None:
            found = f"no file {self.given_labels}"
            require(self.given_labels.is_file(), "a Parquet or CSV file of labels", found, "check the path")


@dataclass(frozen=True, kw_only=True)
class Training(Workers):
    """How a network is trained."""

    epochs: int = 20
    """Passes over the training examples."""
    lr: float = 0.02
    """Learning rate."""
    batch_size: int = 64
    """Examples a step; an epoch is round(examples / batch size) steps of nearly equal size."""
    momentum: float | None = None
    """Momentum; default: the optimizer's own (sgd 0, sgdm 0.9, the others 0)."""
    allow_momentum: bool = False
    """Allow momentum with m3, a3, rm3, ra3 and ra3-scaled, which the paper's authors found unstable."""
    weight_decay: float = 0.0
    """Times the parameter, added to its gradient."""
    schedule: Schedule = "constant"
    """Learning rate over the epochs: constant, step (a tenth at each third) or cosine (to zero)."""
    augment: Literal["none", "crop-flip"] = "none"
    """crop-flip: train on random crops and flips, made on the device."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA where there is one."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """Precision of the network's computations. auto: float32."""
    compile: bool = False
    """Compile the network: a minute or more before the first step, and then faster ones."""
    resume: bool = False
    """Go on with an interrupted run, given its settings again; starts one where there is none."""
    out: Path | None = None
    """The run's folder. Default: a new one under runs/."""

    def __post_init__(self) -> None:
        Workers.__post_init__(self)
        require_positive(epochs=self.epochs, lr=self.lr, batch_size=self.batch_size)
        if self.weight_decay is not None:
            holds = 0 <= self.weight_decay < math.inf
            require(holds, "--weight-decay of 0 or more", self.weight_decay, "mend it")
        if self.momentum is not None:
            require(0 <= self.momentum < 1, "0 <= --momentum < 1", self.momentum, "choose another")

    @property
    def compute_precision(self) -> str:
        """auto is float32 on every device, so that the same command gives the same results."""
        return "float32" if self.precision == "auto" else self.precision

    def _check_optimizer(self, name: str) -> None:
        method, entry = parse_optimizer(name)
        if name == "winsorized":
            found = "--compile"
            require(not self.compile, "a network as it is with winsorized", found, "leave it out")
        if self.momentum is not None and not (entry.is_robust or "momentum" in entry.options):
            raise UserError(f"no --momentum with {name}", self.momentum, "leave it out")
        if (method or entry.is_robust) and self.momentum and not self.allow_momentum:
            raise UserError(
                f"momentum 0 with {name}, since the paper's authors found others unstable",
                f"--momentum {self.momentum}",
                "leave it out, or insist with --allow-momentum",
            )


@dataclass(frozen=True, kw_only=True)
class Network:
    """Which network is trained."""

    model: str = "mlp"
    """mlp | small_cnn | any of torchvision's classifiers, e.g. resnet18."""
    stem: Literal["standard", "small"] = "standard"
    """small: a ResNet begins with a 3 x 3 convolution of stride 1, no max-pooling (32 to 64 pixels)."""

    def __post_init__(self) -> None:
        check_model(self.model)
