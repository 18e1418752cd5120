"""A name or a path -> a data set of (image, label, example id)."""

from hardness.config import Data
from hardness.datasets.base import DataSet, ImageSet
from hardness.registry import parse_data

__all__ = ["DataSet", "ImageSet", "load"]


def load(config: Data, *, model: str, workers: int = 0) -> DataSet:
    """The data set that ``config.data`` names, with clean labels.

    ``model`` matters to the default image size alone (Inception wants 299 pixels); ``workers`` processes
    decode image files.
    Raises ``UserError`` for whatever the user can mend: missing folders, empty classes, bad images.
    """
    entry, place = parse_data(config.data)
    return entry.load()(place, config, model=model, workers=workers, **entry.options)
