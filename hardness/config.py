"""What each stage can be told: one frozen dataclass a stage, checked when it is built.

The command line's flags are these fields, and its help is their docstrings. Nothing here imports torch,
so a configuration that cannot work is refused at once.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from hardness.checks import (
    check_data,
    check_noise,
    check_seed,
    require,
    require_fraction,
    require_positive,
)
from hardness.errors import UserError
from hardness.registry import check_model, parse_data
from hardness.settings import Data, GivenLabels, Network, Schedule, Source, Training, Workers


@dataclass(frozen=True, kw_only=True)
class Track(Training, GivenLabels, Network, Data):
    """Train, and record for every example, every epoch, what the network made of it."""

    optimizer: str = "sgdm"
    """sgd | sgdm | m3 | a3 | rm3 | ra3 | ra3-scaled | adam | adamw | winsorized, or on a base: rm3+adamw."""
    record: Literal["eval", "train"] = "eval"
    """eval: a pass in evaluation mode after the epoch. train: the pass that training makes anyway."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """auto: bf16 on CUDA, else float32. Asked for, float32 is that of records too (12 bytes each, not 7)."""
    checkpoint_every: int = 0
    """Keep the weights of every so many epochs, and of before the first; 0: those of the last one alone."""
    coherence_every: int = 0
    """Measure gradient coherence every so many epochs, and before the first; 0: never."""
    coherence_sample: int = 256
    """Of how many examples; under label noise of as many pristine and corrupt ones."""
    sync_batchnorm: bool = False
    """Of many processes on CUDA: normalise over all of a batch, not over each rank's part."""
    noise: float = 0.0
    """Probability with which each label is redrawn uniformly over all classes."""
    seed: int = 0
    """Of the first weights and of the order of the examples."""

    def __post_init__(self) -> None:
        for part in (Data, Network, GivenLabels, Training):
            part.__post_init__(self)
        self._check_optimizer(self.optimizer)
        _check_sample(self.coherence_sample)
        for name in ("checkpoint_every", "coherence_every"):
            flag, value = f"--{name.replace('_', '-')}", getattr(self, name)
            require(value >= 0, f"{flag} of 0 or more", value, "mend it")
        check_seed(seed=self.seed)
        check_noise(self.noise, self.given_labels)

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
        require(entry.name != "packed", "images to pack", self.data, "name their source")

    @property
    def folder(self) -> Path:
        """Where the packed images go."""
        return self.out or packed_folder(self.data)


def packed_folder(data: str) -> Path:
    """Where the images of a data set are packed, unless told: beside them."""
    entry, place = parse_data(data)
    if entry.name == "digits":
        return Path("data/digits.packed")
    if entry.name == "torchvision":
        name, _, root = place.partition(":")
        return Path(root, f"{name}.packed")
    # A pattern of files: beside their folder.
    folder = Path(place) if entry.name in ("imagefolder", "imagenet") else Path(place).parent
    folder = folder if folder.name else folder.resolve()
    return folder.with_name(f"{folder.name}.packed")


@dataclass(frozen=True, kw_only=True)
class Score(Workers):
    """Score every example from its records, also of a run that was killed, or that another program wrote."""

    run: tuple[Path, ...] = ()
    """Folders with dynamics/; several are pooled as well. Default: the newest finished track under runs/."""
    list: bool = False
    """Print the scores that there are, and nothing else."""
    with_: Annotated[tuple[str, ...], tyro.conf.arg(name="with")] = ()
    """Scores to add for which the tracked network is asked, e.g. grand, or of some epochs, e.g. el2n_1_10."""
    coherence: bool = False
    """Measure gradient coherence of a split's subsets, at every epoch whose weights were kept."""
    split: Path | None = None
    """coherence: the split's file. Default: the run's newest."""
    coherence_sample: int = 256
    """coherence: examples of each subset, of each class as many."""
    epoch: int | None = None
    """with: ask the weights of this epoch, kept by track --checkpoint-every. Default: the last."""
    data: str | None = None
    """The data set, where it has moved since it was tracked."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA where there is one."""
    out: Path | None = None
    """Several runs: the pooled table. Default: scores-poolN.parquet in the first of them."""

    def __post_init__(self) -> None:
        from hardness.dynamics.scores import SCORES

        super().__post_init__()
        found = f"{len(self.run)} of them"
        require(self.out is None or len(self.run) > 1, "two runs or more with --out", found, "leave it out")
        _check_sample(self.coherence_sample)
        for name in self.names:
            SCORES[name]
        asked = any(SCORES[name].probe for name in self.names)
        require(self.epoch is None or asked, "a score of a network with --epoch", "none", "name it --with")
        if self.epoch is not None and "self_confidence" in self.names:
            found = "self-confidence, which trains its own"
            raise UserError("scores of the run's weights with --epoch", found, "ask for it by itself")
        require(self.split is None or self.coherence, "--coherence with --split", "none", "add it")
        if self.data is not None:
            check_data(self.data)

    @property
    def names(self) -> tuple[str, ...]:
        """Those of ``with``, as the columns are called."""
        return tuple(name.replace("-", "_") for name in self.with_)


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Rank the labels of a tracked run by how likely they are wrong."""

    run: Path | None = None
    """The tracked run. Default: the newest finished one under runs/."""
    by: str = "aum"
    """The score whose hardest examples are the suspects; one of those in the run's scores.parquet."""

    def __post_init__(self) -> None:
        from hardness.dynamics.scores import SCORES

        SCORES[self.by]


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
    controls: int = 1
    """How many controls of easy, and of hard, to draw: several are a null distribution."""
    drop_twins: bool = False
    """Leave out all but the first of images that are near-duplicates, by a perceptual hash."""
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

        require(0 < self.quantile <= 0.5, "0 < --quantile <= 0.5", self.quantile, "choose another")
        require_fraction("--test-fraction", self.test_fraction)
        require_positive(controls=self.controls)
        check_seed(seed=self.seed)
        SCORES[self.by]
        if self.name is not None and Path(self.name).name != self.name:
            raise UserError("a --name without folders", repr(self.name), "give a plain name")
        if self.rule == "learned-by":
            sizes = f"--train-size {self.train_size} --test-size {self.test_size}"
            require(None not in (self.train_size, self.test_size), "both sizes", sizes, "give both")
            require_positive(train_size=self.train_size, test_size=self.test_size, epoch=self.epoch)
            require(self.balance == "none", "--balance none with learned-by", self.balance, "leave it out")
            require(len(self.run) < 2, "one run with learned-by", f"{len(self.run)} runs", "name one")


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
    augment: Literal["none", "crop-flip"] | None = None
    """Default: as tracked."""
    precision: Literal["auto", "float32", "bf16"] | None = None
    """Default: as tracked, on whatever device."""
    stem: Literal["standard", "small"] | None = None
    """Default: as tracked; with another --model, standard."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(seeds=self.seeds)
        if self.data is not None:
            check_data(self.data)
        if self.model is not None:
            check_model(self.model)
        if self.optimizer is not None:
            self._check_optimizer(self.optimizer)


@dataclass(frozen=True, kw_only=True)
class Memorize(Training, GivenLabels, Network, Data):
    """Train under label noise with every optimizer, everything else equal, and see who memorizes."""

    lr: float | None = None
    """Learning rate. Default: 0.2, or of --lr-from each optimizer's best."""
    lr_from: tuple[Path, ...] = ()
    """Finished runs of memorize that differ in --lr: each optimizer takes the rate that was best for it."""
    batch_size: int = 32
    epochs: int = 40
    optimizers: tuple[str, ...] = ("sgd", "ra3", "m3", "rm3")
    """Of those of track, e.g. adamw rm3+adamw."""
    noise: tuple[float, ...] = (0.0, 0.5, 1.0)
    """Probabilities with which each label is redrawn."""
    seeds: int = 1
    """How many seeds each optimizer is trained with."""

    def __post_init__(self) -> None:
        for part in (Data, Network, GivenLabels, Training):
            part.__post_init__(self)
        require_positive(seeds=self.seeds)
        one = self.lr is None or not self.lr_from
        require(one, "--lr or --lr-from", "both", "leave one of them out")
        for name, values in (("optimizers", self.optimizers), ("noise", self.noise)):
            require(len(values) > 0, f"at least one of --{name}", "none", "name one")
            require(len(set(values)) == len(values), f"each of --{name} once", values, "drop the repeats")
        for optimizer in self.optimizers:
            self._check_optimizer(optimizer)
        for noise in self.noise:
            check_noise(noise, self.given_labels)


@dataclass(frozen=True, kw_only=True)
class Show:
    """Print how a run stands, whatever its status; nothing is written."""

    run: tyro.conf.Positional[Path | None] = None
    """The folder of a run of track, retrain or memorize. Default: the one under runs/ that began last."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """Draw the comparison from run folders alone: figures, tables, one page."""

    runs: tuple[Path, ...] = ()
    """Run folders of track, retrain and memorize. Default: every finished one under runs/."""
    out: Path = Path("reports/report")
    """The report's folder; an older report there is drawn anew."""
    title: str = "Easy and hard examples"
    formats: tuple[Literal["png", "svg", "pdf"], ...] = ("png",)
    """Formats of the figures' files; the page shows PNG."""
    images: bool = True
    """With --no-images examples are shown without their pictures: for reports that travel."""


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Print how two runs of a stage differ: in settings, and in what came of them."""

    runs: tyro.conf.Positional[tuple[Path, Path]]
    """Two run folders."""


@dataclass(frozen=True, kw_only=True)
class Export:
    """Hand what a tracked run knows of its examples to other tools."""

    run: Path | None = None
    """The tracked run. Default: the newest finished one under runs/."""
    to: Literal["csv", "cleanlab", "fiftyone"] = "csv"
    """csv: a row an example. cleanlab: label issues. fiftyone: a data set for its app (image folders)."""
    out: Path | None = None
    """The file (csv) or folder to write. Default: export.csv or export-TO in the run's folder."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """Do what a recipe says, as far as it isn't done; given again after a kill it goes on."""

    recipe: tyro.conf.Positional[Path]
    """A TOML file, such as those in pipelines/."""
    set_: Annotated[tuple[str, ...], tyro.conf.arg(name="set"), tyro.conf.UseAppendAction] = ()
    """Another value of a setting, e.g. track.epochs=3, all.model=mlp, runs=DIR; as often as needed."""
    dry_run: bool = False
    """Show the plan, what of it is done, and what the rest costs; run nothing."""
    engine: Literal["local", "ray"] = "local"
    """local: as many runs at once as this machine has GPUs. ray: on the cluster of RAY_ADDRESS."""
    yes: bool = False
    """Also a grid of more than 1,000 runs."""


@dataclass(frozen=True, kw_only=True)
class Demo:
    """The whole story on digits: the recipe of track, split, retrain, memorize, report. A minute or two."""

    runs: Path = Path("runs/demo")
    """Where the runs go; what is finished there isn't run again."""
    out: Path = Path("reports/demo")
    """The report's folder."""


def _check_sample(size: int) -> None:
    require(size > 1, "--coherence-sample of 2 or more", size, "raise it")
