"""``load``: the data set that ``--data`` names."""

import torch

from hardness.config import Data
from hardness.console import say, warn
from hardness.datasets.cache import place
from hardness.datasets.examples import DataSet
from hardness.datasets.labels import check_classes
from hardness.errors import UserError
from hardness.ranks import ALONE, Ranks
from hardness.registry import source_of
from hardness.resources import Resources


def load(
    config: Data,
    *,
    model: str = "",
    workers: int = 0,
    device: torch.device | str | None = None,
    ranks: Ranks = ALONE,
    verbose: bool = True,
) -> DataSet:
    """The data set that ``config.data`` names, with clean labels; with a ``device``, placed for it.

    ``model`` only affects the default image size (299 pixels for Inception); up to ``workers`` images are
    decoded at a time. ``verbose``: print the notes and warnings about the data set.
    Raises ``UserError`` for anything the user can fix: missing folders, empty classes, unreadable images.
    """
    device = None if device is None else torch.device(device)
    if config.cache == "device" and (device is None or device.type == "cpu"):
        sentence = "--cache device needs a GPU (got device {device})."
        raise UserError("cache-needs-gpu", sentence, "Remove it.", device=str(device))
    resources = Resources(device or torch.device("cpu"), workers, ranks)
    data = source_of(config.data).load(config, model, resources)
    check_classes(data)
    if verbose:
        for line in data.notes.lines:
            say(line)
        for warning in data.notes.warnings:
            warn(warning)
    return data if device is None else place(data, config.cache, device)
