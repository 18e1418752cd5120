"""A tracked run, for the stages that come back to its data."""

from dataclasses import asdict
from typing import Any

from hardness import datasets
from hardness.config import Data, Track
from hardness.datasets import DataSet
from hardness.errors import UserError
from hardness.registry import parse_data


def tracked_config(info: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a run of track, of older versions too; precision is the one it computed in."""
    # What a run of an older version did not say, it did as the defaults have it.
    return {**asdict(Track()), **info["config"], "precision": info.get("precision", "float32")}


def tracked_data(config: dict[str, Any], moved_to: str | None = None) -> Data:
    """The data settings of a tracked run, perhaps at another place now."""
    settings = {name: config[name] for name in ("data", "size", "val_fraction", "on_bad_image")}
    if moved_to:
        settings["data"] = moved_to
        if parse_data(moved_to)[0].name == "packed":
            # What was held out lies apart there.
            settings["val_fraction"] = None
    return Data(**settings)


def load_as_tracked(images_from: Data, fingerprint: str, do: str, **options: Any) -> DataSet:
    """The data set, loaded with those options. Raises ``UserError`` where its fingerprint is another."""
    data = datasets.load(images_from, **options)
    if data.fingerprint != fingerprint:
        raise UserError(f"data set {fingerprint}, as tracked", data.fingerprint, do)
    return data
