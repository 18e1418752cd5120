"""The settings of each stage: one frozen dataclass per stage, checked when it is built.

The command line's flags are these fields, and its help is their docstrings. Nothing here imports torch,
so an invalid configuration is rejected at once.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from hardness.checks import (
    check_data,
    check_noise,
    require,
    require_distinct,
    require_fraction,
    require_non_negative,
    require_positive,
    require_range,
)
from hardness.registry import check_model, source_of
from hardness.settings import Data, GivenLabels, Network, Schedule, Source, Training, Workers


@dataclass(frozen=True, kw_only=True)
class Track(Training, GivenLabels, Network, Data):
    """Train a network, and record its output on every example after every epoch."""

    optimizer: str = "sgdm"
    """sgd | sgdm | m3 | a3 | rm3 | ra3 | ra3-scaled | adam | adamw | winsorized, or combined: rm3+adamw."""
    record: Literal["eval", "train"] = "eval"
    """eval: an extra pass in evaluation mode after each epoch. train: the training pass itself."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """auto: float32. If given, float32 also stores records in float32 (12 bytes each, not 7)."""
    checkpoint_every: int = 0
    """Keep the initial weights and those of every N-th epoch. 0: keep only the last ones."""
    coherence_every: int = 0
    """Measure gradient coherence before training and at every N-th epoch. 0: never."""
    coherence_sample: int = 256
    """Number of examples to measure coherence on; under label noise, of pristine and of corrupt ones each."""
    sync_batchnorm: bool = False
    """Several processes on CUDA: normalize over the whole batch, not over each rank's part."""
    noise: float = 0.0
    """Probability that a label is redrawn uniformly over all classes."""
    seed: int = 0
    """Seed of the initial weights and of the order of the examples."""

    def __post_init__(self) -> None:
        for part in (Data, Network, GivenLabels, Training):
            part.__post_init__(self)
        self._check_optimizer(self.optimizer)
        _check_sample(self.coherence_sample)
        require_non_negative(
            checkpoint_every=self.checkpoint_every, coherence_every=self.coherence_every, seed=self.seed
        )
        check_noise(self.noise, self.given_labels)

    @property
    def record_precision(self) -> str:
        return "float32" if self.precision == "float32" else "float16"


@dataclass(frozen=True, kw_only=True)
class Pack(Workers, Source):
    """Decode a data set once into a memory-mapped folder, for --data packed:DIR."""

    out: Path | None = None
    """The packed folder. Default: PATH.packed, next to the images."""
    verify: Path | None = None
    """Verify the checksums of this packed folder instead of packing."""

    def __post_init__(self) -> None:
        Source.__post_init__(self)
        Workers.__post_init__(self)
        sentence, hint = "{data} is packed already.", "Pass the original data set with --data."
        require(not source_of(self.data).is_packed, "already-packed", sentence, hint, data=self.data)

    @property
    def folder(self) -> Path:
        """Where the packed images go."""
        return self.out or source_of(self.data).packed_folder


@dataclass(frozen=True, kw_only=True)
class Score(Workers):
    """Score every example from its records, also for an unfinished run or records of another program."""

    run: tuple[Path, ...] = ()
    """Folders with dynamics/. Several are also pooled. Default: the newest finished track run in runs/."""
    list: bool = False
    """Only list the available scores."""
    with_: Annotated[tuple[str, ...], tyro.conf.arg(name="with")] = ()
    """Additional scores: computed with the network, e.g. grand, or for an epoch range, e.g. el2n_1_10."""
    coherence: bool = False
    """Measure the gradient coherence of a split's subsets at every epoch with a checkpoint."""
    split: Path | None = None
    """--coherence: the split file. Default: the run's newest."""
    coherence_sample: int = 256
    """--coherence: number of examples per subset, balanced over classes."""
    epoch: int | None = None
    """--with: use the weights of this epoch, kept by track --checkpoint-every. Default: the last."""
    data: str | None = None
    """The data set, where it has moved since it was tracked."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA if available."""
    out: Path | None = None
    """Several runs: the file of pooled scores. Default: scores-poolN.parquet in the first run."""

    def __post_init__(self) -> None:
        from hardness.dynamics.scores import SCORES

        super().__post_init__()
        sentence = "score takes --out for several runs only (got {num_runs})."
        holds = self.out is None or len(self.run) > 1
        require(holds, "out-for-one-run", sentence, "Remove it.", num_runs=len(self.run))
        _check_sample(self.coherence_sample)
        for name in self.names:
            SCORES[name]
        sentence = "--epoch {epoch} selects the weights for --with, but no score there is computed with them."
        holds = self.epoch is None or any(SCORES[name].probe for name in self.names)
        require(holds, "epoch-without-probe", sentence, "Add a score, e.g. --with grand.", epoch=self.epoch)
        sentence = "self-confidence trains its own networks, so it does not take --epoch {epoch}."
        holds = self.epoch is None or "self_confidence" not in self.names
        require(holds, "epoch-with-self-confidence", sentence, "Compute it separately.", epoch=self.epoch)
        sentence = "--split {path} is used only with --coherence."
        holds = self.split is None or self.coherence
        require(holds, "split-without-coherence", sentence, "Add --coherence.", path=str(self.split))
        if self.data is not None:
            check_data(self.data)

    @property
    def names(self) -> tuple[str, ...]:
        """The scores of ``with_`` by their column names."""
        return tuple(name.replace("-", "_") for name in self.with_)


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Rank the examples of a tracked run by how likely their labels are wrong."""

    run: Path | None = None
    """The tracked run. Default: the newest finished one under runs/."""
    by: str = "aum"
    """The score to rank by, hardest first; a column of the run's scores.parquet."""

    def __post_init__(self) -> None:
        from hardness.dynamics.scores import SCORES

        SCORES[self.by]


@dataclass(frozen=True, kw_only=True)
class Split:
    """Form easy and hard subsets, and their matched controls, from a tracked run."""

    run: tuple[Path, ...] = ()
    """Tracked runs; several are pooled by mean rank. Default: the newest under runs/."""
    rule: Literal["quantile", "learned-by"] = "quantile"
    """quantile: the two ends of the ranking. learned-by (as in the paper): correct at --epoch or not."""
    quantile: float = 0.2
    """The fraction of examples in the easy and in the hard subset; 0 < quantile <= 0.5."""
    by: str = "first_learned_epoch"
    """The score that ranks the examples."""
    balance: Literal["none", "class"] = "none"
    """class: take the quantile within each class."""
    epoch: int = 2
    """learned-by: the epoch that decides."""
    train_size: int | None = None
    """learned-by: number of examples in each subset's train fold."""
    test_size: int | None = None
    """learned-by: number of examples in each subset's test fold."""
    test_fraction: float = 1 / 6
    """quantile: the fraction of examples in the test fold."""
    controls: int = 1
    """Number of random controls for easy and for hard each; several give a null distribution."""
    drop_twins: bool = False
    """Keep only the first of each group of near-duplicate images (by a perceptual hash)."""
    seed: int = 0
    """Seed of folds and controls."""
    name: str | None = None
    """The split file is RUN/splits/NAME.parquet. Default: from the settings, e.g. q0.2."""
    materialize: Path | None = None
    """Also write the images to this folder, as SUBSET/train|val/CLASS/."""
    link: Literal["hard", "symbolic", "copy"] = "hard"
    """How --materialize writes files: hard links, symbolic links or copies."""

    def __post_init__(self) -> None:
        from hardness.dynamics.scores import SCORES

        require_range(0 < self.quantile <= 0.5, "--quantile", "above 0 and at most 0.5", self.quantile)
        require_fraction("--test-fraction", self.test_fraction)
        require_positive(controls=self.controls)
        require_non_negative(seed=self.seed)
        SCORES[self.by]
        sentence, hint = "--name {name!r} contains a folder.", "Pass a plain name."
        holds = self.name is None or Path(self.name).name == self.name
        require(holds, "folder-in-name", sentence, hint, name=self.name)
        if self.rule == "learned-by":
            self._check_learned_by()

    def _check_learned_by(self) -> None:
        sizes = {"train_size": self.train_size, "test_size": self.test_size}
        sentence = "--rule learned-by needs --train-size and --test-size (got {train_size} and {test_size})."
        require(None not in sizes.values(), "no-fold-sizes", sentence, "Pass both.", **sizes)
        require_positive(**sizes, epoch=self.epoch)
        sentence = "--rule learned-by does not take --balance {balance}."
        require(
            self.balance == "none", "balance-with-learned-by", sentence, "Remove it.", balance=self.balance
        )
        sentence = "--rule learned-by takes one run (got {num_runs})."
        holds = len(self.run) < 2
        require(holds, "learned-by-of-several-runs", sentence, "Pass one --run.", num_runs=len(self.run))


@dataclass(frozen=True, kw_only=True)
class Retrain(Training):
    """Train from scratch on each subset, and evaluate on the test folds of all subsets."""

    split: Path | None = None
    """The split's file. Default: the newest under runs/."""
    seeds: int = 3
    """Number of runs per subset, each with its own seed."""
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
    """Default: as tracked; with another --optimizer, its own default."""
    weight_decay: float | None = None
    """Default: as tracked."""
    schedule: Schedule | None = None
    """Default: as tracked."""
    augment: Literal["none", "crop-flip"] | None = None
    """Default: as tracked."""
    precision: Literal["auto", "float32", "bf16"] | None = None
    """Default: as tracked, also on another device."""
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
    """Train each optimizer under label noise, all else equal, and compare how much they memorize."""

    lr: float | None = None
    """Learning rate. Default: 0.2, or each optimizer's best one from --lr-from."""
    lr_from: tuple[Path, ...] = ()
    """Finished memorize runs that differ in --lr; each optimizer uses its best learning rate of these."""
    batch_size: int = 32
    epochs: int = 40
    optimizers: tuple[str, ...] = ("sgd", "ra3", "m3", "rm3")
    """Optimizers to compare: those of track, e.g. adamw rm3+adamw."""
    noise: tuple[float, ...] = (0.0, 0.5, 1.0)
    """Noise levels: probabilities that a label is redrawn."""
    seeds: int = 1
    """Number of seeds per optimizer and noise level."""

    def __post_init__(self) -> None:
        for part in (Data, Network, GivenLabels, Training):
            part.__post_init__(self)
        require_positive(seeds=self.seeds)
        sentence = "--lr {lr} and --lr-from cannot be combined."
        holds = self.lr is None or not self.lr_from
        require(holds, "lr-and-lr-from", sentence, "Remove one of them.", lr=self.lr)
        for name, values in (("optimizers", self.optimizers), ("noise", self.noise)):
            flag, sentence = f"--{name}", "{flag} has no values."
            require(len(values) > 0, "no-values", sentence, "Pass at least one.", flag=flag)
            require_distinct(flag, values)
        for optimizer in self.optimizers:
            self._check_optimizer(optimizer)
        for noise in self.noise:
            check_noise(noise, self.given_labels)


@dataclass(frozen=True, kw_only=True)
class Show:
    """Print the state of a run, finished or not. Writes nothing."""

    run: tyro.conf.Positional[Path | None] = None
    """The folder of a track, retrain or memorize run. Default: the one in runs/ that started last."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write a report on finished runs: one HTML page with figures and tables."""

    runs: tuple[Path, ...] = ()
    """Folders of track, retrain and memorize runs. Default: all finished ones in runs/."""
    out: Path = Path("reports/report")
    """The report's folder; an older report there is replaced."""
    title: str = "Easy and hard examples"
    formats: tuple[Literal["png", "svg", "pdf"], ...] = ("png",)
    """Formats of the figures' files; the page shows PNG."""
    images: bool = True
    """--no-images: show examples without their images, for reports that are shared."""


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Print how two runs of the same stage differ in settings and results."""

    runs: tyro.conf.Positional[tuple[Path, Path]]
    """Two run folders."""


@dataclass(frozen=True, kw_only=True)
class Export:
    """Export the scores of a tracked run's examples for other tools."""

    run: Path | None = None
    """The tracked run. Default: the newest finished one under runs/."""
    to: Literal["csv", "cleanlab", "fiftyone"] = "csv"
    """csv: one row per example. cleanlab: label issues. fiftyone: a data set for its app (image folders)."""
    out: Path | None = None
    """The file (csv) or folder to write. Default: export.csv or export-TO in the run's folder."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """Execute a recipe. Finished runs are skipped; after an interruption the same command resumes."""

    recipe: tyro.conf.Positional[Path]
    """A TOML file, e.g. one of pipelines/."""
    set_: Annotated[tuple[str, ...], tyro.conf.arg(name="set"), tyro.conf.UseAppendAction] = ()
    """Override a setting, e.g. track.epochs=3, all.model=mlp, runs=DIR. May be repeated."""
    dry_run: bool = False
    """Print the plan, what is finished, and the estimated cost of the rest. Run nothing."""
    engine: Literal["local", "ray"] = "local"
    """local: one run at a time per GPU of this machine. ray: on the Ray cluster at RAY_ADDRESS."""
    yes: bool = False
    """Allow a grid of more than 1,000 runs."""


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Run everything on digits: track, split, retrain, memorize, report. Takes a minute or two."""

    runs: Path = Path("runs/demo")
    """Folder for the runs; finished ones there are not run again."""
    out: Path = Path("reports/demo")
    """The report's folder."""


def _check_sample(size: int) -> None:
    require_range(size > 1, "--coherence-sample", "2 or more", size)
