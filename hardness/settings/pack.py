from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hardness.checks import require
from hardness.config import DataChoice, Workers
from hardness.registry import STAGES, source_of


@STAGES.register("pack", in_recipes=True)
@dataclass(frozen=True, kw_only=True)
class Pack(Workers, DataChoice):
    """Decode a data set once into a memory-mapped folder, for --data packed:DIR."""

    out: Path | None = None
    """The packed folder. Default: PATH.packed, next to the images."""
    verify: Path | None = None
    """Verify the checksums of this packed folder instead of packing."""

    def __post_init__(self) -> None:
        DataChoice.__post_init__(self)
        Workers.__post_init__(self)
        sentence, hint = "{data} is packed already.", "Pass the original data set with --data."
        require(not source_of(self.data).is_packed, "already-packed", sentence, hint, data=self.data)

    @staticmethod
    def output(settings: dict[str, Any]) -> Path:
        return settings.get("out") or source_of(settings.get("data", Pack.data)).packed_folder
