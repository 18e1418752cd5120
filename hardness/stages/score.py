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
from hardness.dynamics.pool import pool
from hardness.dynamics.scores import FREE, SCORES, scores
from hardness.errors import UserError
from hardness.stages.run_folder import check_alike, newest_run, read_info, training_settings

_AGREEMENT = "agreement.parquet"


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
    tables = []
    for run, info in zip(runs, infos, strict=True):
        last_epoch = _last_epoch(run, info)
        kept = _kept(run, last_epoch)
        free = [*FREE, *(name for name in {**kept, **dict.fromkeys(config.names)} if SCORES[name].accumulate)]
        found = scores(run, info.get("fingerprint"), last_epoch, dict.fromkeys(free))
        asked = [name for name in config.names if SCORES[name].probe]
        columns = {name: column for name, column in kept.items() if SCORES[name].probe}
        if asked or config.coherence:
            columns |= _ask_network(config, run, info, asked)
        found = found.assign(**columns)
        tables.append(found)
        path = run / "scores.parquet"
        files.write_table(path, found, info.get("fingerprint") or "", {"last_epoch": last_epoch})
        _describe(found, f"{run}, epochs 1 to {last_epoch}")
        say(f"wrote {path}")
    if len(runs) == 1:
        return path
    given_labels = _given_labels(runs)
    path = _pool(config, runs, infos, tables)
    _compare(path, runs, infos, tables, given_labels)
    return path


def _list() -> None:
    for each in SCORES.values():
        harder = "larger" if each.sign > 0 else "smaller"
        asked = "; --with" if each.probe else ""
        say(f"{each.name}: {harder} is harder; {each.range}{asked}")
        say(f"    {each.summary} ({each.source})")


def _kept(run: Path, last_epoch: int | None) -> dict[str, pd.Series]:
    """The columns that an earlier ``--with`` added to the table of the same epochs."""
    path = run / "scores.parquet"
    if not path.exists() or files.table_settings(path).get("last_epoch") != last_epoch:
        return {}
    table = files.read_table(path).to_pandas()
    return {name: table[name] for name in table.columns if name not in ("example_id", *FREE)}


def _ask_network(config: Score, run: Path, info: dict[str, Any], names: list[str]) -> dict[str, np.ndarray]:
    """The scores for which the network must be asked; coherence is written to its own file."""
    # Scoring records needs torch for nothing else.
    from hardness.stages.coherence import subset_coherence
    from hardness.stages.tracked import ask, open_subject

    if info.get("stage") != "track":
        found = f"{run} without a network"
        raise UserError("a run of track for --with and --coherence", found, "leave them out")
    subject = open_subject(run, info, config)
    columns = {name: ask(subject, name, config.epoch) for name in names}
    if config.coherence:
        say(f"wrote {subset_coherence(subject, config.split, config.coherence_sample)}")
    return columns


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


def _pool(config: Score, runs: tuple[Path, ...], infos: list[dict], tables: list[pd.DataFrame]) -> Path:
    path = config.out or runs[0] / f"scores-pool{len(runs)}.parquet"
    if path.name == _AGREEMENT:
        raise UserError(
            "another name for --out", f"{path}, that of a table beside it", "choose another --out"
        )
    settings = {"runs": [str(run) for run in runs]}
    if path.exists() and (found := files.table_settings(path)) != settings:
        others = " ".join(found.get("runs", ["no such table"]))
        raise UserError(f"the pool of {' '.join(settings['runs'])} in {path}", others, "choose another --out")
    files.write_table(path, pool(tables), infos[0].get("fingerprint") or "", settings)
    say(f"wrote {path}")
    return path


def _compare(
    pooled: Path, runs: tuple[Path, ...], infos: list[dict], tables: list[pd.DataFrame], labels: np.ndarray
) -> None:
    """Write agreement.parquet beside the pooled table; say how far two runs agree, by what they differ in."""
    settings = {str(run): training_settings(info) for run, info in zip(runs, infos, strict=True)}
    found = agreement(tables, labels, settings)
    path = pooled.with_name(_AGREEMENT)
    files.write_table(path, found, infos[0].get("fingerprint") or "", {"runs": list(settings)})
    summary = over_pairs(found)
    share, num_examples = summary[["chance", "num_examples"]].iloc[0]
    say(
        f"Spearman's rank correlation of two runs, over {num_examples:,.0f} examples: mean over the pairs "
        "[least low end, greatest high end of the 95 % intervals]; share of the easiest and of the hardest "
        f"{share:.2g} that two runs have in common (by chance {share:.2g})"
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
