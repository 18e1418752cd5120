"""The interface of every data set: inputs, given labels and ids of examples."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import itemgetter
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from hardness.datasets.found import Notes
from hardness.errors import UserError
from hardness.ranks import Ranks

Inputs = Tensor | dict[str, Tensor]
"""What a network takes: one tensor, or several by name, each with the examples along its first axis."""
Preview = Tensor | str | Mapping[str, Any]
"""What a person can look at: an image uint8 (C, H, W), a text, or a row of a table."""


def each_tensor(function: Callable[[Tensor], Tensor], inputs: Inputs) -> Inputs:
    """Apply a function to the tensor, or to each of them."""
    if isinstance(inputs, dict):
        return {name: function(values) for name, values in inputs.items()}
    return function(inputs)


class InputStore(Protocol):
    """Where the inputs of examples are stored."""

    needs_decoding: bool
    """Reading takes computation: processes do it in advance."""

    def __getitem__(self, ids: Sequence[int]) -> Inputs:
        """The inputs of those examples."""
        ...

    def preview(self, example_id: int) -> Preview: ...


class Adapter(Protocol):
    """What depends on the kind of input: one class for images, others for texts and tables."""

    input_shape: Sequence[int]
    """Of one example, as the network takes it."""

    def describe(self) -> dict[str, Any]:
        """Its entries in run.json."""
        ...

    def random_inputs(self, batch_size: int, device: torch.device) -> Inputs: ...

    def augmentation(
        self, name: str, seed: int, ranks: Ranks
    ) -> Callable[[Inputs, int, int, int], Inputs] | None:
        """The augmentation that ``--augment`` names: (inputs, epoch, step, batch size) -> inputs."""
        ...

    def near_duplicates(self, examples: "Examples", workers: int) -> np.ndarray:
        """int64 (N,): the number of each example's group of near-duplicates."""
        ...

    def network(
        self, layers: nn.Module, name: str, precision: str, channels: int | None = None
    ) -> nn.Sequential:
        """A network that takes batches as they are stored. Raises ``UserError`` if it cannot take them."""
        ...


@dataclass(frozen=True, eq=False)
class Examples(torch.utils.data.Dataset):
    """Inputs with labels. An example's id is its position here, also in subsets of it."""

    inputs: InputStore
    keys: Sequence[str]
    """A stable name of each example."""
    clean_labels: Tensor
    """(N,) int64."""
    given_labels: Tensor
    """(N,) int64: the labels that the network is trained on."""
    unreadable: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    """int64 ids of examples that cannot be read, with --on-bad-image null."""

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def ids(self) -> np.ndarray:
        """int64 ids of the examples that can be read."""
        return np.setdiff1d(np.arange(len(self)), self.unreadable)

    def batch(self, ids: Sequence[int]) -> tuple[Inputs, Tensor]:
        """(inputs, given labels int64 (B,)) of those examples. Raises ``UserError`` if one cannot be read."""
        return self.inputs[ids], self.given_labels[torch.as_tensor(ids)]

    def preview(self, example_id: int) -> Preview:
        """What a person can look at. Raises ``UserError`` if it cannot be read."""
        return self.inputs.preview(example_id)

    def __getitem__(self, example_id: int) -> tuple[Inputs, Tensor, Tensor]:
        """One (input, label (), id ())."""
        inputs, labels = self.batch([example_id])
        return each_tensor(itemgetter(0), inputs), labels[0], torch.tensor(example_id)

    def __getitems__(self, ids: Sequence[int]) -> tuple[Inputs, Tensor, Tensor] | UserError:
        """A batch: inputs, labels int64 (B,), ids int64 (B,).

        For an unreadable image the error is returned, not raised: raising it in a worker process of a
        ``DataLoader`` would lose its fields. ``hardness.datasets.Loader`` raises it.
        """
        try:
            return *self.batch(ids), torch.as_tensor(ids)
        except UserError as error:
            return error

    def with_labels(self, given_labels: Tensor) -> "Examples":
        """The same examples with other given labels."""
        return replace(self, given_labels=given_labels)


@dataclass(frozen=True)
class DataSet:
    """A base training set, its validation set, and what a model needs to know about them."""

    train: Examples
    validation: Examples
    class_names: Sequence[str]
    adapter: Adapter
    parts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Files or folders of ``train`` and ``validation``, and those ``left_out``, if chosen by name."""
    notes: Notes = field(default_factory=Notes)

    def __post_init__(self) -> None:
        if self.num_classes < 2:
            sentence, hint = "The data set has only one class: {name!r}.", "Add images of other classes."
            raise UserError("single-class", sentence, hint, name=self.class_names[0])

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @cached_property
    def fingerprint(self) -> str:
        """Of training keys and class names, not of inputs: it does not depend on how they are stored."""
        digest = hashlib.sha256()
        for name in (*self.class_names, "", *self.train.keys):
            digest.update(name.encode(errors="surrogateescape") + b"\0")
        return digest.hexdigest()[:16]

    def describe(self) -> dict[str, Any]:
        """The entry of the data set in run.json."""
        return {
            "num_train": len(self.train),
            "num_validation": len(self.validation),
            "class_names": list(self.class_names),
            **self.adapter.describe(),
            "parts": {part: list(names) for part, names in self.parts.items()},
        }
