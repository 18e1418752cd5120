"""Example ids for a PyTorch data set of your own."""

from collections.abc import Mapping
from typing import Any

from torch.utils.data import Dataset


class with_ids(Dataset):  # noqa: N801: used as a function.
    """The same data set, whose items end with their id: the position in the data set.

    ``(image, label)`` becomes ``(image, label, id)``; a mapping gets the key ``example_id``. Loaders may
    shuffle, repeat and drop items: the id stays with its example.
    """

    def __init__(self, dataset: Any):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, example_id: int) -> Any:
        item = self.dataset[example_id]
        if isinstance(item, Mapping):
            return {**item, "example_id": int(example_id)}
        return (*item, int(example_id)) if isinstance(item, tuple | list) else (item, int(example_id))
