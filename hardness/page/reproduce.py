"""The commands that reproduce the runs of a report, and the report."""

from pathlib import Path
from typing import Any

from hardness import files
from hardness.dynamics.scores import FREE, NOT_SCORES
from hardness.errors import UserError
from hardness.registry import STAGES
from hardness.runs.reading import OWN, read_info
from hardness.runs.settings import command, defaults, non_default, split_of


def commands(config: Any, runs: dict[Path, dict]) -> list[str]:
    """One command per run, then that of the report.

    The command of its split precedes a run of retrain; runs that searched its learning rates, if they still
    exist, precede a run of memorize.
    """
    made = []
    for stage in (name for name, entry in STAGES.items() if entry.trains):
        for path, info in runs.items():
            if info["stage"] == stage and info.get("record_mode") != OWN:
                made += [_split(info)] if stage == "retrain" else []
                made += _searched(info)
                made.append(_made(path, info))
                made += _scores(path, info) if stage == "track" else []
    # Name every run, even if the report was made of all finished ones.
    settings = {"runs": list(runs), "out": config.out, "title": config.title, "no_images": not config.images}
    if list(config.formats) != defaults("report")["formats"]:
        settings["formats"] = config.formats
    return [*dict.fromkeys(made), command("report", settings)]


def _made(path: Path, info: dict) -> str:
    return command(info["stage"], {**non_default(info), "resume": False, "out": path}, info)


def _searched(info: dict) -> list[str]:
    made = []
    for path in map(Path, info["config"].get("lr_from", ())):
        try:
            searched = read_info(path)
        except UserError:
            continue
        made += [*_searched(searched), _made(path, searched)]
    return made


def _scores(path: Path, info: dict) -> list[str]:
    """Scores of a tracked run that need its network, and coherence of its subsets."""
    table = path / "scores.parquet"
    names, known = files.column_names(table), files.table_settings(table)
    last, epochs = known.get("last_epoch"), known.get("asked", {})
    by_epoch: dict[int | None, list[str]] = {}
    for name in names:
        if name not in (*NOT_SCORES, *FREE):
            epoch = epochs.get(name)
            by_epoch.setdefault(None if epoch == last else epoch, []).append(name)
    made = [command("score", {"run": path, "with": of, "epoch": epoch}) for epoch, of in by_epoch.items()]
    coherence = path / "coherence.parquet"
    if coherence.exists():
        measured_on = files.read_table(coherence, info["fingerprint"], ["measured_on"])["measured_on"]
        if "easy" in measured_on.unique().to_pylist():
            made.append(command("score", {"run": path, "coherence": True}))
    return made


def _split(info: dict) -> str:
    path, settings = Path(info["config"]["split"]), split_of(info)
    # The split is in the folder of the first of its runs; the others are next to that.
    tracked = path.parents[1]
    runs = [tracked.with_name(name) for name in settings.get("runs", [tracked.name])]
    chosen = {name: settings[name] for name, value in split_of({}).items() if settings[name] != value}
    return command("split", {"run": runs, **chosen, "name": path.stem})
