"""What to type to make the runs of a report, and the report, again."""

from pathlib import Path

from hardness import files
from hardness.config import Report
from hardness.dynamics.scores import FREE
from hardness.errors import UserError
from hardness.stages.run_folder import read_info
from hardness.stages.run_settings import CONFIGS, command, uncommon
from hardness.stages.split import DEFAULTS, split_of


def commands(config: Report, runs: dict[Path, dict]) -> list[str]:
    """One a run, the report's at last.

    Before each retraining that of its split; before a run of memorize those that searched its learning rates,
    as far as they are still there.
    """
    made = []
    for stage in CONFIGS:
        for path, info in runs.items():
            if info["stage"] == stage:
                made += [_split(info)] if stage == "retrain" else []
                made += _searched(info)
                made.append(_made(path, info))
                made += _scores(path, info) if stage == "track" else []
    # Every run by name, also where all that were there were taken.
    told = {"runs": list(runs), "out": config.out, "title": config.title, "no_images": not config.images}
    if config.formats != Report().formats:
        told["formats"] = config.formats
    return [*dict.fromkeys(made), command("report", told)]


def _made(path: Path, info: dict) -> str:
    return command(info["stage"], {**uncommon(info), "resume": False, "out": path}, info)


def _searched(info: dict) -> list[str]:
    """The runs by which the learning rates of a run were found."""
    made = []
    for path in map(Path, info["config"].get("lr_from", ())):
        try:
            searched = read_info(path)
        except UserError:
            continue
        made += [*_searched(searched), _made(path, searched)]
    return made


def _scores(path: Path, info: dict) -> list[str]:
    """What was asked of a tracked run beside its records."""
    table = path / "scores.parquet"
    names, known = files.column_names(table), files.table_settings(table)
    last, asked = known.get("last_epoch"), known.get("asked", {})
    by_epoch: dict[int | None, list[str]] = {}
    for name in names:
        if name not in ("example_id", *FREE):
            epoch = asked.get(name)
            by_epoch.setdefault(None if epoch == last else epoch, []).append(name)
    made = [command("score", {"run": path, "with": of, "epoch": epoch}) for epoch, of in by_epoch.items()]
    coherence = path / "coherence.parquet"
    if coherence.exists():
        measured_on = files.read_table(coherence, info["fingerprint"], ["measured_on"])["measured_on"]
        if "easy" in measured_on.unique().to_pylist():
            made.append(command("score", {"run": path, "coherence": True}))
    return made


def _split(info: dict) -> str:
    """The command of the split that a run of retrain was given."""
    path, settings = Path(info["config"]["split"]), split_of(info)
    # The split's file lies in the first of its runs, beside which the others are.
    tracked = path.parents[1]
    runs = [tracked.with_name(name) for name in settings.get("runs", [tracked.name])]
    told = {name: settings[name] for name in DEFAULTS if settings[name] != DEFAULTS[name]}
    return command("split", {"run": runs, **told, "name": path.stem})
