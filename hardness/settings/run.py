from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from hardness.registry import STAGES


@STAGES.register("run", function="hardness.recipes.run:run")
@dataclass(frozen=True, kw_only=True)
class Run:
    """Execute a recipe. Finished runs are skipped; after an interruption the same command resumes."""

    recipe: tyro.conf.Positional[Path]
    """A TOML file, e.g. one of pipelines/."""
    set_: Annotated[tuple[str, ...], tyro.conf.arg(name="set"), tyro.conf.UseAppendAction] = ()
    """Override a setting, e.g. track.epochs=3, all.model=mlp, runs=DIR. May be repeated."""
    dry_run: bool = False
    """Print the plan, what is finished, and the estimated cost of the rest. Run nothing."""
    engine: Literal["local", "ray"] = "local"
    """local: one run at a time per GPU of this machine. ray: on the Ray cluster at RAY_ADDRESS."""
    yes: bool = False
    """Allow a grid of more than 1,000 runs."""
