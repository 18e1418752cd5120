from dataclasses import dataclass
from pathlib import Path

import tyro

from hardness.registry import STAGES


@STAGES.register("show")
@dataclass(frozen=True, kw_only=True)
class Show:
    """Print the state of a run, finished or not. Writes nothing."""

    run: tyro.conf.Positional[Path | None] = None
    """The folder of a track, retrain or memorize run. Default: the one in runs/ that started last."""
