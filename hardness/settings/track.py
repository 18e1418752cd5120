from dataclasses import dataclass
from typing import Literal

from hardness.checks import check_noise, require_non_negative
from hardness.config import Data, GivenLabels, Network, OptimizerName, Training, check_sample
from hardness.registry import STAGES


@STAGES.register(
    "track",
    in_recipes=True,
    inputs={"pack": "data"},
    trains=True,
    many_ranks=True,
    gpus=1,
    in_run_json=("seed", "fingerprint", "record_mode", "data", "device"),
)
@dataclass(frozen=True, kw_only=True)
class Track(Training, GivenLabels, Network, Data):
    """Train a network, and record its output on every example after every epoch."""

    optimizer: OptimizerName = "sgdm"
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
        check_sample(self.coherence_sample)
        require_non_negative(
            checkpoint_every=self.checkpoint_every, coherence_every=self.coherence_every, seed=self.seed
        )
        check_noise(self.noise, self.given_labels)

    @property
    def record_precision(self) -> str:
        return "float32" if self.precision == "float32" else "float16"
