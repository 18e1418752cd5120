from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from hardness.checks import check_data, require
from hardness.config import Workers, check_sample
from hardness.registry import STAGES


@STAGES.register("score", in_recipes=True, inputs={"track": "run", "split": "split"}, gpus=1)
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
        check_sample(self.coherence_sample)
        for name in self.names:
            SCORES[name]
        sentence = "--epoch {epoch} selects the weights for --with, but no score there is computed with them."
        holds = self.epoch is None or any(SCORES[name].needs_network for name in self.names)
        require(holds, "epoch-without-probe", sentence, "Add a score, e.g. --with grand.", epoch=self.epoch)
        sentence = "self-confidence trains its own networks, so it does not take --epoch {epoch}."
        holds = self.epoch is None or "self_confidence" not in self.names
        require(holds, "epoch-with-self-confidence", sentence, "Compute it separately.", epoch=self.epoch)
        sentence = "--split {path} is used only with --coherence."
        holds = self.split is None or self.coherence
        require(holds, "split-without-coherence", sentence, "Add --coherence.", path=str(self.split))
        if self.data is not None:
            check_data(self.data)

    @staticmethod
    def output(settings: dict[str, Any]) -> Path:
        return settings["run"][0]

    @property
    def names(self) -> tuple[str, ...]:
        """The scores of ``with_`` by their column names."""
        return tuple(name.replace("-", "_") for name in self.with_)
