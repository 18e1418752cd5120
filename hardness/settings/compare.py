from dataclasses import dataclass
from pathlib import Path

import tyro

from hardness.registry import STAGES


@STAGES.register("compare")
@dataclass(frozen=True, kw_only=True)
class Compare:
    """Print how two runs of the same stage differ in settings and results."""

    runs: tyro.conf.Positional[tuple[Path, Path]]
    """Two run folders."""
