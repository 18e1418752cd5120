"""``hardness run`` executes the unfinished runs of a recipe; ``hardness demo`` that of the demo."""

import importlib.util
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from rich.filesize import decimal
from rich.markup import escape
from rich.tree import Tree

from hardness import console
from hardness.console import duration, say
from hardness.errors import UserError
from hardness.recipes.cost import Cost, costs
from hardness.recipes.count import num_epochs
from hardness.recipes.local import on_this_machine
from hardness.recipes.plan import PlannedRun, expand
from hardness.recipes.recipe import Recipe, read
from hardness.recipes.work import Engine
from hardness.settings.demo import Demo
from hardness.settings.run import Run as Config

_DEMO = Path(__file__).with_name("demo.toml")
_MOST = 1000
"""The most runs without --yes."""
_LISTED = 12
"""The most runs of a stage that are listed one by one."""


def run(config: Config) -> Path:
    """Execute the unfinished runs of a recipe -> the folder of its runs.

    If some fail, raises ``UserError`` after all runs that do not depend on them.
    """
    words = ["hardness", "run", str(config.recipe)]
    for change in config.set_:
        words += ["--set", change]
    words += ["--engine", config.engine] if config.engine != "local" else []
    words += ["--yes"] if config.yes else []
    recipe = read(config.recipe, config.set_)
    _do(recipe, shlex.join(words), config.engine, config.dry_run, most=None if config.yes else _MOST)
    return recipe.runs


def demo(config: Demo) -> Path:
    """Execute the recipe of the demo -> the report's folder."""
    started = time.perf_counter()
    recipe = read(_DEMO, [f"runs={config.runs}", f"report.out={config.out}"])
    _do(recipe, shlex.join(["hardness", "demo", "--runs", str(config.runs), "--out", str(config.out)]))
    say(f"Finished in {time.perf_counter() - started:.0f} s. Open {config.out / 'index.html'}")
    return config.out


def _do(
    recipe: Recipe, command: str, engine: str = "local", dry_run: bool = False, most: int | None = _MOST
) -> None:
    """``command``: what to run again after an interruption or a failure."""
    execute = _engine(engine)
    runs = list(expand(recipe, most).values())
    to_do: list[PlannedRun] = []
    for run in runs:
        # If a dependency is executed again, so is the run.
        if not run.is_done or any(need in to_do for need in run.depends_on):
            to_do.append(run)
    console.tree(_tree(recipe, runs, costs(to_do)))
    if to_do:
        say("estimated from throughput measured now, one run at a time")
    if dry_run or not to_do:
        return
    try:
        failed = _follow(execute(to_do), num_runs=len(runs), num_done=len(runs) - len(to_do))
    except KeyboardInterrupt:
        say(f"Interrupted. Resume with: {command}")
        raise
    if failed:
        _fail(failed, to_do, command)


def _follow(events: Engine, num_runs: int, num_done: int) -> dict[PlannedRun, str]:
    """Show the progress of an engine until it ends -> the errors of the runs that failed."""
    failed: dict[PlannedRun, str] = {}
    running: list[PlannedRun] = []
    with console.Runs(num_runs, num_done) as view, closing(events):
        for event in events:
            if event is None:
                for run in running:
                    view.advance(run.name, run.num_epochs_done)
            elif event.kind == "began":
                running.append(event.run)
                view.begin(event.run.name, num_epochs(event.run), event.run.num_epochs_done)
            elif event.kind == "done":
                running.remove(event.run)
                view.end(event.run.name, f"done, {duration(event.run.seconds)}")
            else:
                running.remove(event.run)
                view.end(event.run.name, f"failed: {event.error}")
                failed[event.run] = event.error
    return failed


def _engine(name: str) -> Callable[[Sequence[PlannedRun]], Engine]:
    if name == "local":
        return on_this_machine
    if importlib.util.find_spec("ray") is None:
        sentence, hint = "--engine ray needs Ray.", "Install it: pip install 'hardness-toolkit[ray]'."
        raise UserError("no-ray", sentence, hint)
    from hardness.recipes.on_ray import on_ray

    return on_ray


def _tree(recipe: Recipe, runs: Sequence[PlannedRun], left: Mapping[PlannedRun, Cost]) -> Tree:
    """The stages, each under the one in its ``from``, and their runs."""
    view = Tree(f"[bold]{escape(str(recipe.path))}[/]: {_summary(runs, left)}, in {escape(str(recipe.runs))}")
    branches = {}
    for stage in recipe.stages.values():
        here = [run for run in runs if run.stage is stage]
        fed = f" [dim]from {' and '.join(stage.sources)}[/]" if len(stage.sources) > 1 else ""
        above = branches[stage.sources[0]] if len(stage.sources) == 1 else view
        branch = branches[stage.id] = above.add(f"[bold]{escape(stage.id)}[/]{fed}: {_summary(here, left)}")
        if 1 < len(here) <= _LISTED:
            for run in here:
                branch.add(f"{escape(run.name)}: {_state(run, left)}", style="dim" if run not in left else "")
    return view


def _summary(runs: Sequence[PlannedRun], left: Mapping[PlannedRun, Cost]) -> str:
    to_do = [left[run] for run in runs if run in left]
    done = f"{len(runs) - len(to_do)} done" if len(to_do) < len(runs) else ""
    count = "one run" if len(runs) == 1 else f"{len(runs)} runs"
    rest = f"{len(to_do)} to do, {_price(to_do)}" if to_do else ""
    return ": ".join(filter(None, [count, ", ".join(filter(None, [done, rest]))]))


def _state(run: PlannedRun, left: Mapping[PlannedRun, Cost]) -> str:
    if run not in left:
        return f"done, {duration(run.seconds)}"
    done = run.num_epochs_done
    progress = f"at epoch {done} of {num_epochs(run)}, " if done else ""
    return f"{progress}{_price([left[run]])}"


def _price(found: Sequence[Cost]) -> str:
    seconds, size = (sum(getattr(each, name) for each in found) for name in ("seconds", "bytes"))
    return f"about {duration(seconds)}, {decimal(size)}"


def _fail(failed: Mapping[PlannedRun, str], to_do: Sequence[PlannedRun], command: str) -> None:
    """Print the errors and the skipped runs, then raise ``UserError``."""
    for run, error in failed.items():
        say(f"{run.name} failed: {error}")
        say(f"  its log: {run.log}; run it alone with: {run.command}")
    if skipped := [run.name for run in to_do if run not in failed and not run.is_done]:
        say(f"skipped, because a run they depend on failed: {', '.join(skipped)}")
    sentence = "{num_failed} of {num_runs} runs failed: {names}."
    values = {"num_failed": len(failed), "num_runs": len(to_do), "command": command}
    values["names"] = ", ".join(run.name for run in failed)
    raise UserError("failed-runs", sentence, "Fix the cause, then rerun: {command}", **values)
