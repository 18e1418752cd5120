"""Training by a function of the user's own, in place of ours."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from hardness import optim
from hardness.datasets import Examples
from hardness.dynamics.batch import as_tensor
from hardness.errors import UserError
from hardness.resources import Resources
from hardness.training.grid import Epoch, Member, Trainer
from hardness.training.measure import measured

_AT_ONCE = 8192
"""Examples that ``predict`` is asked for."""


class Train(Protocol):
    """A user's training: yields a function ``predict(ids) -> logits (B, C)`` after each epoch.

    ids, labels: int64 (N,), what to train on. seed: 32 bits, of everything random. ``make_optimizer(params)``
    returns the optimizer that is to be used, e.g. M3; ``train_step`` of
    ``hardness.training.step`` takes a step with any.
    ``predict`` gets int64 ids, and returns an array or tensor in evaluation mode, in their order.
    """

    def __call__(
        self,
        ids: np.ndarray,
        labels: np.ndarray,
        *,
        seed: int,
        make_optimizer: Callable[[Iterable[Parameter]], Optimizer],
    ) -> Iterable[Callable[[np.ndarray], Any]]: ...


@dataclass(frozen=True)
class IdsOnly:
    """The inputs of examples that only the user's own code can read."""

    needs_decoding = False

    def __getitem__(self, ids: Any) -> Tensor:
        raise NotImplementedError("the inputs of your own data set")

    preview = __getitem__


def by_user(train: Train, num_classes: int, weight_decay: float, momentum: float | None) -> Trainer:
    """Members train by ``train``, and are measured by what it predicts."""

    def trained(member: Member) -> Iterator[Epoch]:
        labels = member.examples.given_labels.numpy()[member.ids]
        make = partial(
            optim.build, member.optimizer, lr=member.lr, weight_decay=weight_decay, momentum=momentum
        )
        number = 0
        for number, predict in enumerate(
            train(member.ids.copy(), labels, seed=member.stream, make_optimizer=make), start=1
        ):
            predictions = partial(_batches, predict, num_classes)
            yield Epoch(number, measured(predictions, member.groups, Resources()))
        if number == 0:
            raise ValueError("train() yielded nothing: yield predict(ids) after each epoch")

    return trained


def _batches(
    predict: Callable[[np.ndarray], Any], num_classes: int, examples: Examples, ids: np.ndarray
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    for start in range(0, len(ids), _AT_ONCE):
        part = ids[start : start + _AT_ONCE].copy()
        with torch.no_grad():
            logits = as_tensor("logits", predict(part)).cpu().float()
        if logits.shape != (len(part), num_classes):
            expected, found = (len(part), num_classes), tuple(logits.shape)
            raise ValueError(f"predict(ids) must return logits of shape {expected}, not {found}")
        if not logits.isfinite().all():
            raise UserError("own-logits-not-finite", "predict(ids) returned nan or inf.", "Lower lr.")
        part = torch.from_numpy(part)
        yield part, logits, examples.given_labels[part]
