from dataclasses import dataclass
from typing import Literal

from hardness.checks import check_data, require_positive
from hardness.config import AnyPath, Schedule, Training
from hardness.registry import STAGES, check_model


@STAGES.register(
    "retrain",
    in_recipes=True,
    inputs={"split": "split"},
    trains=True,
    gpus=1,
    in_run_json=("tracking_seed", "fingerprint", "record_mode", "data", "device", "split", "tracked"),
)
@dataclass(frozen=True, kw_only=True)
class Retrain(Training):
    """Train from scratch on each subset, and evaluate on the test folds of all subsets."""

    split: AnyPath | None = None
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
