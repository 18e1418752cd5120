from dataclasses import dataclass

from hardness.checks import check_noise, require, require_distinct, require_positive
from hardness.config import Data, GivenLabels, Names, Network, Numbers, Paths, Training
from hardness.registry import STAGES


@STAGES.register(
    "memorize",
    in_recipes=True,
    inputs={"pack": "data", "memorize": "lr_from"},
    pooled=("lr_from",),
    trains=True,
    gpus=1,
    in_run_json=("fingerprint", "data", "device"),
)
@dataclass(frozen=True, kw_only=True)
class Memorize(Training, GivenLabels, Network, Data):
    """Train each optimizer under label noise, all else equal, and compare how much they memorize."""

    lr: float | None = None
    """Learning rate. Default: 0.2, or each optimizer's best one from --lr-from."""
    lr_from: Paths = ()
    """Finished memorize runs that differ in --lr; each optimizer uses its best learning rate of these."""
    batch_size: int = 32
    epochs: int = 40
    optimizers: Names = ("sgd", "ra3", "m3", "rm3")
    """Optimizers to compare: those of track, e.g. adamw rm3+adamw."""
    noise: Numbers = (0.0, 0.5, 1.0)
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
