"""``hardness show``: the state of a run, from its folder, which is read and never written to."""

import statistics
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pandas as pd
from rich import filesize

from hardness import files
from hardness.console import facts, say, sparkline, table
from hardness.dynamics.own_runs import complete, is_own
from hardness.dynamics.scores import NOT_SCORES
from hardness.errors import UserError
from hardness.findings.curves import last_epoch
from hardness.page.describe import describe_data, describe_training
from hardness.registry import STAGES
from hardness.runs.discovery import all_runs, no_runs, started_last
from hardness.runs.reading import OWN, check_stage, read_info, read_log, split_settings
from hardness.runs.settings import OPERATIONAL, describe_lr, non_default, resume_command, split_of
from hardness.settings.show import Show
from hardness.subsets import CONTROLS, SUBSETS

Info = dict[str, Any]
Log = list[dict[str, Any]]

_ALWAYS_SHOWN = {
    *("data", "split", "model", "optimizer", "optimizers"),
    *("epochs", "lr", "batch_size", "seed", "seeds"),
}
_CURVES = {
    "train_loss": "train loss",
    "train_top1": "train top-1",
    "record_top1": "record accuracy",
    "learned": "learned so far",
    "validation_top1": "validation top-1",
    "images_per_second": "images/s",
}


def show(config: Show) -> Path:
    """Print the state of the run -> its folder. A missing or broken file is reported on a line."""
    if config.run is None and not (runs := all_runs()):
        raise no_runs("run", "track")
    run = config.run or started_last(runs)
    info = complete(run) if is_own(run) else read_info(run)
    check_stage(run, info, [name for name, entry in STAGES.items() if entry.trains])
    log: Log = []
    above: list[tuple[str, str]] = []
    below: list[tuple[str, str]] = []
    _try("log.jsonl", lambda: log.extend(read_log(run)))
    _try("run.json", lambda: above.extend(_facts(info, log)))
    facts(f"{run}: {info['stage']}, {info['status']}", above)
    if info["stage"] == "track":
        _try("log.jsonl", lambda: _show_curves(log))
        _try("splits", lambda: _show_splits(run))
        _try("scores.parquet", lambda: below.extend(_scores(run)))
    elif "data" in info:
        # Before it loads its data, a run has not resolved its settings.
        _try("curves", lambda: _show_networks(run, info, log))
    _try("files", lambda: below.append(("files", ", ".join(_files(run)) or "none yet")))
    say("")
    facts("", below)
    if info["status"] != "finished":
        when = "If it was killed, resume with" if info["status"] == "running" else "Resume with"
        say(f"\n{when}: {resume_command(run, info)}")
    return run


def _try(what: str, action: Callable[[], None]) -> None:
    try:
        action()
    except UserError as error:
        say(f"{what}: {error}")
    # A run of another version, a file edited by hand, or one that is being replaced.
    except (OSError, LookupError, AttributeError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        say(f"{what}: not in the format of this version ({reason})")


def _facts(info: Info, log: Log) -> Iterator[tuple[str, str]]:
    """The entries of run.json; an early one lacks some of them."""
    config = info["config"]
    yield "times", _times(info, log)
    if "data" in info:
        data, num_unreadable = info["data"], info.get("num_unreadable", 0)
        if info.get("record_mode") == OWN:
            yield "data", describe_data(info)
            yield "training", describe_training(info)
            return
        size = " x ".join(map(str, data["image_shape"][1:]))
        yield (
            "data",
            f"{config['data'] or info['tracked']['data']}: {data['num_train']:,} training and "
            f"{data['num_validation']:,} validation images of {size}, {len(data['class_names'])} classes"
            + (f", {num_unreadable} unreadable" if num_unreadable else ""),
        )
        yield "fingerprint", info["fingerprint"]
    if info["stage"] == "retrain":
        yield "split", f"{config['split']}"
    optimizers = config.get("optimizers") or [config["optimizer"]]
    size = f" ({info['num_parameters']:,} parameters)" if "num_parameters" in info else ""
    yield (
        "training",
        f"{config['model']}{size}, {', '.join(optimizers)}, {describe_lr(info)}, "
        f"batch size {config['batch_size']}, {config['epochs']} epochs",
    )
    if others := ", ".join(_other_settings(info)):
        yield "settings", others
    rates = info.get("noise_rates") or {f"{config.get('noise')}": info.get("noise_rate")}
    if corrupt := ", ".join(f"{rate:.4f} at noise {noise}" for noise, rate in rates.items() if rate):
        yield "corrupt", corrupt
    seeds = f"{config['seeds']} of each network" if "seeds" in config else f"{config['seed']}"
    yield ("seeds" if "seeds" in config else "seed"), seeds
    if "device" in info:
        processes = f", {info['num_ranks']} processes" if info.get("num_ranks", 1) > 1 else ""
        yield "device", f"{info['device']}, {info.get('precision', 'float32')}{processes}"
    yield "progress", _progress(info, log) if "data" in info else "none yet"


def _times(info: Info, log: Log) -> str:
    """When it started and ended; for a running one, also the time of its last epoch."""
    started, ended, now = info["times"]["started"], info["times"]["ended"], datetime.now(UTC)
    text = f"started {datetime.fromisoformat(started):%Y-%m-%d %H:%M:%S} UTC"
    if ended:
        took = datetime.fromisoformat(ended) - datetime.fromisoformat(started)
        return f"{text}, ended {datetime.fromisoformat(ended):%Y-%m-%d %H:%M:%S}, took {took}"
    text += f", {_rounded(now - datetime.fromisoformat(started))} ago"
    if log and "time" in log[-1]:
        text += f"; last epoch {_rounded(now - datetime.fromisoformat(log[-1]['time']))} ago"
    return text


def _rounded(duration: timedelta) -> timedelta:
    """To the second."""
    return timedelta(seconds=round(duration.total_seconds()))


def _other_settings(info: Info) -> Iterator[str]:
    for name, value in non_default(info).items():
        if value is None or name in _ALWAYS_SHOWN | OPERATIONAL:
            continue
        values = value if isinstance(value, list) else [value]
        words = name.replace("_", " ")
        yield words if value is True else f"{words} {' '.join(map(str, values))}"


def _progress(info: Info, log: Log) -> str:
    epochs, done = info["config"]["epochs"], len(log)
    num_networks = 1 if info["stage"] == "track" else len(_kinds(info)) * info["config"]["seeds"]
    total = num_networks * epochs
    text = f"epoch {done} of {total}"
    if info["stage"] != "track":
        text = f"{num_networks} networks, {text}"
        if log and done < total:
            last = log[-1]
            text += f"; last: {last['epoch']}/{epochs} of {_label(last, info)}, seed {last['seed']}"
    if info["status"] != "finished" and (seconds := _seconds_per_epoch(log)) is not None:
        text += f"; about {_rounded(timedelta(seconds=seconds * (total - done)))} left"
    return text


def _seconds_per_epoch(log: Log) -> float | None:
    """With evaluation and recording. The median, since the run may have been interrupted between epochs."""
    times = [datetime.fromisoformat(line["time"]) for line in log if "time" in line]
    between = [(later - earlier).total_seconds() for earlier, later in pairwise(times)]
    return statistics.median(between) if between else None


def _show_curves(log: Log) -> None:
    rows = []
    for key, name in _CURVES.items():
        values = [line.get(key) for line in log]
        if known := [value for value in values if value is not None]:
            rows.append([name, _number(known[0]), sparkline(values), _number(known[-1])])
    if rows:
        say("")
        table("", ["", "first", "by epoch", "last"], rows)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3f}"


def _kinds(info: Info) -> list[dict[str, Any]]:
    """The networks of a grid without their seeds: the columns that distinguish them."""
    config = info["config"]
    if info["stage"] == "memorize":
        kinds = product(config["noise"], config["optimizers"])
        return [{"noise": noise, "optimizer": optimizer} for noise, optimizer in kinds]
    more = range(2, split_of(info)["controls"] + 1)
    further = [f"{control}-{number}" for number in more for control in CONTROLS.values()]
    return [{"trained_on": name} for name in (*SUBSETS, *further)]


def _label(kind: dict[str, Any], info: Info) -> str:
    if info["stage"] == "retrain":
        return kind["trained_on"]
    return f"{kind['optimizer']}, noise {kind['noise']:g}"


def _show_networks(run: Path, info: Info, log: Log) -> None:
    """One row per kind of network: how many of its seeds are finished, and their mean accuracies."""
    fingerprint, seeds, epochs = (
        info["fingerprint"],
        info["config"]["seeds"],
        info["config"].get("epochs", "?"),
    )
    whole = run / "curves.parquet"
    paths = [whole] if whole.exists() else sorted((run / "members").glob("*.parquet"))
    curves = [last_epoch(files.read_table(path, fingerprint).to_pandas()) for path in paths]
    names = ["trained_on", "optimizer", "noise", "seed", "measured_on", "top1"]
    last = pd.concat(curves) if curves else pd.DataFrame(columns=names)
    measured_on = list(last["measured_on"].unique())
    rows = []
    for kind in _kinds(info):
        mine = last[(last[list(kind)] == pd.Series(kind)).all(axis=1)]
        finished = set(mine["seed"])
        started = [line for line in log if kind.items() <= line.items() and line["seed"] not in finished]
        if len(finished) == seeds:
            state = "finished"
        elif finished:
            state = f"{len(finished)}/{seeds} finished"
        else:
            state = f"epoch {started[-1]['epoch']}/{epochs}" if started else "not started"
        means = mine.groupby("measured_on")["top1"].mean()
        cells = (f"{means[name]:.3f}" if name in means else "" for name in measured_on)
        rows.append([_label(kind, info), state, *cells])
    say("")
    over_seeds = ", mean over seeds" if seeds > 1 else ""
    title = f"Top-1 at the last epoch{over_seeds}: networks (rows), measured on (columns)" if curves else ""
    table(title, ["", "state", *measured_on], rows)


def _show_splits(run: Path) -> None:
    rows: list[list[str]] = []
    for path in sorted((run / "splits").glob("*.parquet")):
        _try(str(path), lambda path=path: rows.append(_split_row(path)))
    if rows:
        say("")
        table("Splits: examples in the train + test fold", ["", "easy", "hard", "random", "controls"], rows)


def _split_row(path: Path) -> list[str]:
    made = split_settings(path)
    how = f"correct by epoch {made['epoch']}"
    if made["rule"] == "quantile":
        within = " within classes" if made["balance"] == "class" else ""
        how = f"quantile {made['quantile']:g} by {made['by']}{within}"
    how += ", near-duplicates dropped" if made.get("drop_twins") else ""
    how += f", {len(made['runs'])} runs" if len(made["runs"]) > 1 else ""
    members = files.read_table(path, columns=["subset", "fold"]).to_pandas()
    sizes = members.value_counts().to_dict()
    folds = (f"{sizes[name, 'train']:,} + {sizes[name, 'test']:,}" for name in ("easy", "hard", "random"))
    return [f"{path.stem}: {how}", *folds, f"{made.get('controls', 1)} of each"]


def _scores(run: Path) -> Iterator[tuple[str, str]]:
    path = run / "scores.parquet"
    if not path.exists():
        return
    names = [name for name in files.column_names(path) if name not in NOT_SCORES]
    scores = files.read_table(path, columns=["first_learned_epoch", "mean_loss"]).to_pandas()
    first = scores["first_learned_epoch"][scores["mean_loss"].notna()]
    at_once, never = (first == 1).sum(), first.isna().sum()
    yield "scores", ", ".join(names)
    yield (
        "learned",
        f"in epoch 1 {at_once:,} ({at_once / len(first):.3f}), never {never:,} ({never / len(first):.3f}) "
        f"of {len(first):,} examples",
    )


def _files(run: Path) -> Iterator[str]:
    """The other files, with sizes."""
    for path in sorted(run.iterdir()):
        if path.name.startswith(".") or path.name in ("run.json", "log.jsonl"):
            continue
        inside = [each for each in path.rglob("*") if each.is_file()] if path.is_dir() else [path]
        size = filesize.decimal(sum(each.stat().st_size for each in inside))
        many = f"/ ({len(inside)} files, {size})" if len(inside) > 1 else f"/ ({size})"
        yield f"{path.name}{many}" if path.is_dir() else f"{path.name} ({size})"
