"""``hardness score``: scores from records, whoever wrote them, of one run or of several together."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hardness import files
from hardness.agreement import agreement, kinds_of_difference, over_pairs
from hardness.config import Score
from hardness.console import remark, say, table
from hardness.dynamics import store
from hardness.dynamics.pool import common_scores, pool
from hardness.dynamics.scores import FREE, SCORES, scores
from hardness.errors import UserError
from hardness.stages.run_folder import check_alike, newest_run, newest_split, read_info, split_settings
from hardness.stages.run_settings import training_settings


def score(config: Score) -> Path | None:
    """Write RUN/scores.parquet of every run, and of several one pooled table -> the last file's path.

    ``with`` adds columns to those that are there; ``coherence`` writes RUN/coherence.parquet.
    """
    if config.list:
        _list()
        return None
    runs = config.run or (newest_run("track"),)
    infos = [_info(run) for run in runs]
    check_alike(runs, infos)
    if len(runs) > 1:
        _check_pool(_pooled_path(config, runs), runs)
    tables, asked_of = [], []
    for run, info in zip(runs, infos, strict=True):
        last_epoch = _last_epoch(run, info)
        kept, weights_of = _kept(run, last_epoch)
        free = [*FREE, *(name for name in {**kept, **dict.fromkeys(config.names)} if SCORES[name].accumulate)]
        found = scores(run, info.get("fingerprint"), last_epoch, dict.fromkeys(free))
        asked = [name for name in config.names if SCORES[name].probe]
        columns = {name: column for name, column in kept.items() if SCORES[name].probe}
        if asked or config.coherence:
            answers = _ask_network(config, run, info, asked)
            columns |= {name: answer for name, (answer, _) in answers.items()}
            weights_of |= {name: epoch for name, (_, epoch) in answers.items()}
        found = found.assign(**columns)
        tables.append(found)
        asked_of.append(weights_of)
        path = run / "scores.parquet"
        settings = {"last_epoch": last_epoch, "asked": weights_of}
        files.write_table(path, found, info.get("fingerprint") or "", settings)
        _describe(found, f"{run}, epochs 1 to {last_epoch}")
        say(f"wrote {path}")
    if len(runs) == 1:
        return path
    given_labels = _given_labels(runs)
    _check_weights(runs, tables, asked_of)
    path = _pool(config, runs, infos, tables)
    _compare(path, runs, infos, tables, given_labels)
    return path


def _list() -> None:
    for each in SCORES.values():
        harder = "larger" if each.sign > 0 else "smaller"
        asked = "; --with" if each.probe else ""
        say(f"{each.name}: {harder} is harder; {each.range}{asked}")
        say(f"    {each.summary} ({each.source})")


def _kept(run: Path, last_epoch: int | None) -> tuple[dict[str, pd.Series], dict[str, int]]:
    """The columns that an earlier ``--with`` added to the table of the same epochs, and of which weights."""
    path = run / "scores.parquet"
    settings = files.table_settings(path) if path.exists() else {}
    if settings.get("last_epoch") != last_epoch:
        return {}, {}
    table = files.read_table(path).to_pandas()
    columns = {name: table[name] for name in table.columns if name not in ("example_id", *FREE)}
    return columns, settings.get("asked", {})


def _ask_network(
    config: Score, run: Path, info: dict[str, Any], names: list[str]
) -> dict[str, tuple[np.ndarray, int]]:
    """The scores for which the network must be asked, and the epoch of its weights.

    Coherence is written to its own file.
    """
    # Scoring records needs torch for nothing else.
    from hardness.stages.coherence import subset_coherence
    from hardness.stages.tracked import compute_score, open_tracked

    if info.get("stage") != "track":
        found = f"{run} without a network"
        raise UserError("a run of track for --with and --coherence", found, "leave them out")
    split = config.split or newest_split(run) if config.coherence else None
    if split is not None:
        split_settings(split)
    tracked = open_tracked(run, info, config)
    answers = {name: compute_score(tracked, name, config.epoch) for name in names}
    if split is not None:
        say(f"wrote {subset_coherence(tracked, split, config.coherence_sample)}")
    return answers


def _info(run: Path) -> dict[str, Any]:
    """run.json, or for a stranger's records what stands for it."""
    if (run / "run.json").exists():
        return read_info(run)
    epochs = store.recorded_epochs(run)
    if not epochs:
        found = "none" if run.is_dir() else "no such folder"
        expected = f"records in {run / 'dynamics'}, epoch=1/, epoch=2/, ..."
        raise UserError(expected, found, "check the path, or track a run there first")
    first = store.parts(run, epochs[0])[0]
    # A Recorder's own has an empty one, where nothing else is known.
    return {"fingerprint": files.fingerprint_of(first) or "", "record_mode": None, "status": "finished"}


def _last_epoch(run: Path, info: dict[str, Any]) -> int | None:
    """A run that was killed may have left an epoch that not all of its ranks had written."""
    epochs = store.recorded_epochs(run)
    if not epochs:
        return None
    if info["status"] != "finished":
        remark(f"{run} is not finished ({info['status']}): its whole epochs are scored")
        if len(epochs) > 1 and not store.is_whole(run, epochs[-1]):
            remark(f"epoch {epochs.pop()} is not whole: left out")
    elif (expected := info.get("config", {}).get("epochs", epochs[-1])) != epochs[-1]:
        found = f"epochs 1..{epochs[-1]}"
        raise UserError(f"records of {expected} epochs in {run}, as it is finished", found, "restore them")
    return epochs[-1]


def _given_labels(runs: tuple[Path, ...]) -> np.ndarray:
    """(N,): runs are pooled example by example, and must mean the same ones, under the same given labels."""
    first, *others = (store.read_epoch(run, 1).given_label for run in runs)
    for run, labels in zip(runs[1:], others, strict=True):
        if len(labels) != len(first):
            raise UserError(f"{len(first)} examples in {run}", str(len(labels)), "pool runs of the same data")
        if (labels != first).any():
            where = f"others, of example {np.flatnonzero(labels != first)[0]} first"
            raise UserError(f"the given labels of {runs[0]} in {run}", where, "pool runs of the same labels")
    return first


def _describe(found: pd.DataFrame, title: str) -> None:
    rows = []
    for name in found.columns.drop("example_id"):
        values = found[name].astype("Float64")
        parts = (values.quantile(q) if values.notna().any() else None for q in (0, 0.5, 1))
        rows.append([name, *("" if part is None else f"{part:.4g}" for part in parts), values.isna().sum()])
    table(title, ["score", "least", "median", "most", "null"], rows)


def _check_weights(runs: tuple[Path, ...], tables: list[pd.DataFrame], asked_of: list[dict]) -> None:
    """A score of the network is pooled where it is of the same epoch's weights in every run."""
    for name in common_scores(tables):
        epochs = [weights_of.get(name) for weights_of in asked_of]
        for run, epoch in zip(runs, epochs, strict=True):
            if epoch != epochs[0]:
                expected = f"{name} of epoch {epochs[0]} in {run}, as in {runs[0]}"
                raise UserError(expected, f"epoch {epoch}", "score them alike: --epoch")


def _pooled_path(config: Score, runs: tuple[Path, ...]) -> Path:
    return config.out or runs[0] / f"scores-pool{len(runs)}.parquet"


def _check_pool(path: Path, runs: tuple[Path, ...]) -> None:
    """Before any work: a pool of other runs stays."""
    settings = {"runs": [str(run) for run in runs]}
    if path.exists() and (found := files.table_settings(path)) != settings:
        others = " ".join(found.get("runs", ["no such table"]))
        raise UserError(f"the pool of {' '.join(settings['runs'])} in {path}", others, "choose another --out")


def _pool(config: Score, runs: tuple[Path, ...], infos: list[dict], tables: list[pd.DataFrame]) -> Path:
    path = _pooled_path(config, runs)
    settings = {"runs": [str(run) for run in runs]}
    files.write_table(path, pool(tables), infos[0].get("fingerprint") or "", settings)
    say(f"wrote {path}")
    return path


def _compare(
    pooled: Path, runs: tuple[Path, ...], infos: list[dict], tables: list[pd.DataFrame], labels: np.ndarray
) -> None:
    """Write POOL-agreement.parquet beside the pooled table; say how far two runs agree, by what differs."""
    settings = {str(run): training_settings(info) for run, info in zip(runs, infos, strict=True)}
    found = agreement(tables, labels, settings)
    path = pooled.with_name(f"{pooled.stem}-agreement.parquet")
    files.write_table(path, found, infos[0].get("fingerprint") or "", {"runs": list(settings)})
    summary = over_pairs(found)
    chance, num_examples = summary[["chance", "num_examples"]].iloc[0]
    by_chance = "too few examples for one" if np.isnan(chance) else f"by chance {chance:.2g}"
    say(
        f"Spearman's rank correlation of two runs, over {num_examples:,.0f} examples: mean over the pairs "
        "[least low end, greatest high end of the 95 % intervals]; share of the easiest and of the hardest "
        f"fifth that two runs have in common ({by_chance})"
    )
    for differs in kinds_of_difference(summary):
        rows = []
        for name, both in summary[summary["differs"] == differs].groupby("score_a", sort=False):
            plain = both.iloc[0]
            overlaps = (f"{plain[column]:.2f}" for column in ("easy_overlap", "hard_overlap"))
            rows.append([name, *(_correlation(row) for _, row in both.iterrows()), *overlaps])
        title = f"Runs that differ in {differs} (pairs: {plain['num_pairs']})"
        table(title, ["score", "plain", "within classes", "easy", "hard"], rows)
    say(f"wrote {path}")


def _correlation(row: pd.Series) -> str:
    if row["num_constant"] == row["num_pairs"]:
        return "constant"
    told = f"{row['spearman']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
    return f"{told}, {row['num_constant']} constant" if row["num_constant"] else told
