from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hardness.checks import require, require_fraction, require_non_negative, require_positive, require_range
from hardness.registry import STAGES


@STAGES.register("split", in_recipes=True, inputs={"track": "run", "score": "run"})
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

    @staticmethod
    def output(settings: dict[str, Any]) -> Path:
        config = Split(**settings)
        return config.run[0] / "splits" / f"{config.name or _default_name(config)}.parquet"

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


def _default_name(config: Split) -> str:
    if config.rule == "learned-by":
        parts = [f"learned-by-{config.epoch}"]
    else:
        parts = [f"q{config.quantile:g}"]
        if config.by != "first_learned_epoch":
            parts.append(config.by)
        if config.balance == "class":
            parts.append("class")
        if len(config.run) > 1:
            parts.append(f"pool{len(config.run)}")
    if config.drop_twins:
        parts.append("no-twins")
    if config.controls > 1:
        parts.append(f"controls{config.controls}")
    return "-".join(parts)
