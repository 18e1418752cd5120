"""What each stage can be told: one frozen dataclass a stage, checked when it is built.

The command line's flags are these fields, and its help is their docstrings. Nothing here imports torch,
so a configuration that cannot work is refused at once.
"""

import glob
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hardness.distributed import launch
from hardness.errors import UserError, unknown_name
from hardness.registry import TORCHVISION_DATASETS, check_model, parse_data, parse_optimizer

Schedule = Literal["constant", "step", "cosine"]


def _require(holds: bool, expected: str, found: Any, do: str) -> None:
    if not holds:
        raise UserError(expected, str(found), do)


def _require_fraction(name: str, value: float) -> None:
    _require(0 < value < 1, f"0 < {name} < 1", value, "choose another")


def _require_positive(**values: float | None) -> None:
    for name, value in values.items():
        is_positive = value is None or (value > 0 and math.isfinite(value))
        _require(is_positive, f"a positive --{name.replace('_', '-')}", value, "choose another")


def _check_data(data: str) -> None:
    entry, place = parse_data(data)
    if entry.name == "digits":
        _require(not place, "digits alone", data, "leave out what follows the colon")
        return
    if entry.name == "torchvision":
        name, _, place = place.partition(":")
        if name not in TORCHVISION_DATASETS:
            raise unknown_name("a torchvision data set", name, TORCHVISION_DATASETS)
    do = "write torchvision:NAME:PATH" if entry.name == "torchvision" else f"write {entry.name}:PATH"
    _require(bool(place), f"a path after {entry.name}", repr(data), do)


def _check_folder(data: str, val_fraction: float | None, size: int | None) -> None:
    """Image folders: PATH, PATH/train and PATH/val must be there. The others have no such flags."""
    entry, place = parse_data(data)
    if entry.name == "packed":
        do = "check the path, or run `hardness pack` first"
        _require((Path(place) / "pack.json").is_file(), f"a packed folder {place}", "no pack.json there", do)
    if entry.name == "tar":
        _require(bool(glob.glob(place)), f"tars {place}", "none there", "check the pattern")  # noqa: PTH207
        return
    if entry.name not in ("imagefolder", "imagenet"):
        for flag, value in (("--val-fraction", val_fraction), ("--size", size)):
            _require(value is None, f"{flag} with image files only", data, "leave out the flag")
        return
    root = Path(place)
    _require(root.is_dir(), f"a folder {root}", "none there", "check the path")
    inside = sorted(path.name for path in root.iterdir())[:5]
    held = f"{root} holding {', '.join(inside) or 'nothing'}"
    _require((root / "train").is_dir(), f"a folder {root / 'train'}", held, "put one folder a class there")
    if val_fraction is None:
        do = "put the validation images there, or pass --val-fraction 0.1"
        _require((root / "val").is_dir(), f"a folder {root / 'val'}", held, do)
    else:
        found = f"{root / 'val'} and --val-fraction {val_fraction}"
        _require(not (root / "val").is_dir(), f"no {root / 'val'}", found, "leave out --val-fraction")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Which images."""

    data: str = "digits"
    """digits | imagefolder:PATH | imagenet:PATH | tar:PATTERN | packed:PATH | torchvision:NAME:PATH."""
    size: int | None = None
    """Image folders: height and width in pixels. Default: the first image's short side, at most 224."""
    val_fraction: float | None = None
    """Image folders without val/: the share of train/ to hold out as the validation set."""
    download: bool = False
    """torchvision's data sets: fetch the files if they aren't there."""
    on_bad_image: Literal["stop", "null"] = "stop"
    """An image that can't be read: stop and name it, or leave it out and record it as null."""

    def __post_init__(self) -> None:
        _check_data(self.data)
        _check_folder(self.data, self.val_fraction, self.size)
        _require_positive(size=self.size)
        if self.val_fraction is not None:
            _require_fraction("--val-fraction", self.val_fraction)


@dataclass(frozen=True, kw_only=True)
class Data(Source):
    """Which images, and how they are read."""

    cache: Literal["auto", "host", "none"] = "auto"
    """Image folders: decode once and keep in memory (host), or every epoch (none). auto: host if it fits."""


@dataclass(frozen=True, kw_only=True)
class Workers:
    """How many processes decode images."""

    workers: int | None = None
    """Processes that decode images. Default: one a core, at most 16."""

    def __post_init__(self) -> None:
        _require(self.workers is None or self.workers >= 0, "--workers of 0 or more", self.workers, "mend it")

    @property
    def num_workers(self) -> int:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        share = min(cores // launch().num_local_ranks, 16)
        return self.workers if self.workers is not None else share if cores > 1 else 0


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Which labels are given to the network instead of the clean ones."""

    noise_seed: int = 0
    """Seed of the label noise; the wrong labels depend on it alone."""
    given_labels: Path | None = None
    """Parquet or CSV with columns example_id, label (class index): real noisy labels to put in place."""

    def __post_init__(self) -> None:
        _check_seed(noise_seed=self.noise_seed)
        if self.given_labels is not None:
            found = f"no file {self.given_labels}"
            _require(self.given_labels.is_file(), "a Parquet or CSV file of labels", found, "check the path")


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
    """Allow momentum with m3, a3, rm3 and ra3, which the paper's authors found unstable."""
    weight_decay: float = 0.0
    """Times the parameter, added to its gradient."""
    schedule: Schedule = "constant"
    """Learning rate over the epochs: constant, step (a tenth at each third) or cosine (to zero)."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA where there is one."""
    resume: bool = False
    """Go on with an interrupted run, given its settings again; starts one where there is none."""
    out: Path | None = None
    """The run's folder. Default: a new one under runs/."""

    def __post_init__(self) -> None:
        Workers.__post_init__(self)
        _require_positive(epochs=self.epochs, lr=self.lr, batch_size=self.batch_size)
        if self.weight_decay is not None:
            holds = 0 <= self.weight_decay < math.inf
            _require(holds, "--weight-decay of 0 or more", self.weight_decay, "mend it")
        if self.momentum is not None:
            _require(0 <= self.momentum < 1, "0 <= --momentum < 1", self.momentum, "choose another")

    def _check_optimizer(self, name: str) -> None:
        method, entry = parse_optimizer(name)
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


@dataclass(frozen=True, kw_only=True)
class Track(Training, Labels, Network, Data):
    """Train, and record for every example, every epoch, what the network made of it."""

    optimizer: str = "sgdm"
    """sgd | sgdm | m3 | a3 | rm3 | ra3 | adam | adamw | winsorized, or a method on a base, e.g. rm3+adamw."""
    record: Literal["eval", "train"] = "eval"
    """eval: a pass in evaluation mode after the epoch. train: the pass that training makes anyway."""
    precision: Literal["auto", "float32"] = "auto"
    """float32: keep recorded numbers whole (12 bytes a record). auto: round them to float16 values (7)."""
    sync_batchnorm: bool = False
    """Of many processes on CUDA: normalise over all of a batch, not over each rank's part."""
    noise: float = 0.0
    """Probability with which each label is redrawn uniformly over all classes."""
    seed: int = 0
    """Of the first weights and of the order of the examples."""

    def __post_init__(self) -> None:
        for part in (Data, Network, Labels, Training):
            part.__post_init__(self)
        self._check_optimizer(self.optimizer)
        _check_seed(seed=self.seed)
        _check_noise(self.noise, self.given_labels)

    @property
    def record_precision(self) -> str:
        return "float32" if self.precision == "float32" else "float16"


@dataclass(frozen=True, kw_only=True)
class Pack(Workers, Source):
    """Decode a data set once, into a folder that is mapped into memory: --data packed:DIR."""

    out: Path | None = None
    """The packed folder. Default: PATH.packed, beside the images."""
    verify: Path | None = None
    """A packed folder whose checksums to check, instead of packing."""

    def __post_init__(self) -> None:
        Source.__post_init__(self)
        Workers.__post_init__(self)
        entry, _ = parse_data(self.data)
        _require(entry.name != "packed", "images to pack", self.data, "name their source")


@dataclass(frozen=True, kw_only=True)
class Score:
    """Score every example from its records, also of a run that was killed, or that another program wrote."""

    run: tuple[Path, ...] = ()
    """Folders with dynamics/; several are pooled as well. Default: the newest finished track under runs/."""
    list: bool = False
    """Print the scores that there are, and nothing else."""
    out: Path | None = None
    """Several runs: the pooled table. Default: scores-poolN.parquet in the first of them."""

    def __post_init__(self) -> None:
        found = f"{len(self.run)} of them"
        _require(self.out is None or len(self.run) > 1, "two runs or more with --out", found, "leave it out")


@dataclass(frozen=True, kw_only=True)
class Split:
    """Form easy and hard subsets, and their matched controls, from a tracked run."""

    run: tuple[Path, ...] = ()
    """Tracked runs; several are pooled by mean rank. Default: the newest under runs/."""
    rule: Literal["quantile", "learned-by"] = "quantile"
    """quantile: the ends of the ranking. learned-by (the paper's): correct at --epoch against the rest."""
    quantile: float = 0.2
    """The share of the examples that is called easy, and hard; 0 < quantile <= 0.5."""
    by: str = "first_learned_epoch"
    """The score that ranks the examples."""
    balance: Literal["none", "class"] = "none"
    """class: take the quantile within each class."""
    epoch: int = 2
    """learned-by: the epoch that decides."""
    train_size: int | None = None
    """learned-by: examples in each subset's train fold."""
    test_size: int | None = None
    """learned-by: examples in each subset's test fold."""
    test_fraction: float = 1 / 6
    """quantile: the share of the examples in the test fold."""
    seed: int = 0
    """Seed of folds and controls, beside those of the runs."""
    name: str | None = None
    """The split's file is RUN/splits/NAME.parquet. Default: from the settings, e.g. q0.2."""
    materialize: Path | None = None
    """Also write SUBSET/train|val/CLASS/ trees of image files to this folder."""
    link: Literal["hard", "symbolic", "copy"] = "hard"
    """How --materialize puts files in place."""

    def __post_init__(self) -> None:
        from hardness.dynamics.scores import SCORES

        _require(0 < self.quantile <= 0.5, "0 < --quantile <= 0.5", self.quantile, "choose another")
        _require_fraction("--test-fraction", self.test_fraction)
        _check_seed(seed=self.seed)
        SCORES[self.by]
        if self.name is not None and Path(self.name).name != self.name:
            raise UserError("a --name without folders", repr(self.name), "give a plain name")
        if self.rule == "learned-by":
            sizes = f"--train-size {self.train_size} --test-size {self.test_size}"
            _require(None not in (self.train_size, self.test_size), "both sizes", sizes, "give both")
            _require_positive(train_size=self.train_size, test_size=self.test_size, epoch=self.epoch)
            _require(self.balance == "none", "--balance none with learned-by", self.balance, "leave it out")
            _require(len(self.run) < 2, "one run with learned-by", f"{len(self.run)} runs", "name one")


@dataclass(frozen=True, kw_only=True)
class Retrain(Training):
    """Train from scratch on each subset, and measure on every subset's test fold."""

    split: Path | None = None
    """The split's file. Default: the newest under runs/."""
    seeds: int = 3
    """How many times each subset is trained on."""
    data: str | None = None
    """The data set, where it has moved since it was tracked."""
    model: str | None = None
    """Default: as tracked."""
    optimizer: str | None = None
    """Default: as tracked."""
    epochs: int | None = None
    """Default: as tracked."""
    lr: float | None = None
    """Learning rate. Default: as tracked."""
    batch_size: int | None = None
    """Default: as tracked."""
    momentum: float | None = None
    """Default: as tracked; with another --optimizer, that one's own."""
    weight_decay: float | None = None
    """Default: as tracked."""
    schedule: Schedule | None = None
    """Default: as tracked."""
    stem: Literal["standard", "small"] | None = None
    """Default: as tracked; with another --model, standard."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_positive(seeds=self.seeds)
        if self.data is not None:
            _check_data(self.data)
        if self.model is not None:
            check_model(self.model)
        if self.optimizer is not None:
            self._check_optimizer(self.optimizer)


@dataclass(frozen=True, kw_only=True)
class Memorize(Training, Labels, Network, Data):
    """Train under label noise with every optimizer, everything else equal, and see who memorizes."""

    lr: float = 0.2
    batch_size: int = 32
    epochs: int = 40
    optimizers: tuple[str, ...] = ("sgd", "ra3", "m3", "rm3")
    """Of those of track, e.g. adamw rm3+adamw."""
    noise: tuple[float, ...] = (0.0, 0.5, 1.0)
    """Probabilities with which each label is redrawn."""
    seeds: int = 1
    """How many seeds each optimizer is trained with."""

    def __post_init__(self) -> None:
        for part in (Data, Network, Labels, Training):
            part.__post_init__(self)
        _require_positive(seeds=self.seeds)
        for name, values in (("optimizers", self.optimizers), ("noise", self.noise)):
            _require(len(values) > 0, f"at least one of --{name}", "none", "name one")
            _require(len(set(values)) == len(values), f"each of --{name} once", values, "drop the repeats")
        for optimizer in self.optimizers:
            self._check_optimizer(optimizer)
        for noise in self.noise:
            _check_noise(noise, self.given_labels)


@dataclass(frozen=True, kw_only=True)
class Report:
    """Draw the comparison from run folders alone: figures, tables, one page."""

    runs: tuple[Path, ...] = ()
    """Run folders of track, retrain and memorize. Default: every finished one under runs/."""
    out: Path = Path("reports/report")
    """The report's folder; an older report there is drawn anew."""
    title: str = "Easy and hard examples"


@dataclass(frozen=True, kw_only=True)
class Demo:
    """The whole story on digits: track, split, retrain, memorize, report. About a minute on a laptop."""

    runs: Path = Path("runs/demo")
    """Where the runs go; what is finished there isn't run again."""
    out: Path = Path("reports/demo")
    """The report's folder."""


def _check_seed(**seeds: int) -> None:
    for name, seed in seeds.items():
        _require(seed >= 0, f"--{name.replace('_', '-')} of 0 or more", seed, "choose another")


def _check_noise(noise: float, given_labels: Path | None) -> None:
    _require(0 <= noise <= 1, "--noise within 0..1", noise, "choose another")
    if noise > 0 and given_labels is not None:
        raise UserError("label noise or --given-labels", "both", "choose one: --noise 0 leaves out the noise")
