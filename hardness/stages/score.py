"""``hardness score``: scores from records, of any program, for one run or several runs together."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hardness import files
from hardness.console import remark, say, table
from hardness.dynamics import store
from hardness.dynamics.own_runs import check_has_network, complete, is_own
from hardness.dynamics.pool import common_scores, pool
from hardness.dynamics.scores import FREE, NOT_SCORES, SCORES, scores
from hardness.errors import UserError
from hardness.findings.agreement import agreement, kinds_of_difference, over_pairs
from hardness.runs.discovery import newest_run, newest_split
from hardness.runs.reading import OWN, check_alike, check_same, epoch_of, not_a_run, read_info, split_settings
from hardness.runs.settings import training_settings
from hardness.settings.score import Score


def score(config: Score) -> Path | None:
    """Write RUN/scores.parquet of every run, and one pooled table of several runs -> the last file's path.

    ``with`` adds columns to the existing ones; ``coherence`` writes RUN/coherence.parquet.
    """
    if config.list:
        _list()
        return None
    runs = config.run or (newest_run("track"),)
    infos = [_info(run) for run in runs]
    check_alike(runs, infos)
    pooled = config.out or runs[0] / f"scores-pool{len(runs)}.parquet"
    pooled_from = {"runs": [str(run) for run in runs]}
    if len(runs) > 1:
        _check_pool(pooled, pooled_from)
    tables, epochs_of_weights = [], []
    for run, info in zip(runs, infos, strict=True):
        last_epoch = _last_epoch(run, info)
        kept, weights_of = _kept(run, last_epoch)
        more = [name for name in dict.fromkeys([*kept, *config.names]) if not SCORES[name].needs_network]
        found = scores(run, info.get("fingerprint"), last_epoch, also=more)
        probes = [name for name in config.names if SCORES[name].needs_network]
        columns = {name: column for name, column in kept.items() if SCORES[name].needs_network}
        if probes or config.coherence:
            results = _network_scores(config, run, info, probes)
            columns |= {name: values for name, (values, _) in results.items()}
            weights_of |= {name: epoch for name, (_, epoch) in results.items()}
        found = found.assign(**columns)
        tables.append(found)
        epochs_of_weights.append(weights_of)
        path = run / "scores.parquet"
        settings = {"last_epoch": last_epoch, "asked": weights_of}
        files.write_table(path, found, info.get("fingerprint") or "", settings)
        _describe(found, f"{run}, epochs 1 to {last_epoch}")
        say(f"wrote {path}")
    if len(runs) == 1:
        return path
    given_labels = _given_labels(runs)
    for name in common_scores(tables):
        check_same(epoch_of(name), runs, [weights_of.get(name) for weights_of in epochs_of_weights])
    files.write_table(pooled, pool(tables), infos[0].get("fingerprint") or "", pooled_from)
    say(f"wrote {pooled}")
    _compare(pooled, runs, infos, tables, given_labels)
    return pooled


def _list() -> None:
    for each in SCORES.values():
        harder = "larger" if each.sign > 0 else "smaller"
        needs = "; --with" if each.needs_network else ""
        say(f"{each.name}: {harder} is harder; {each.range}{needs}")
        say(f"    {each.summary} {each.source}")


def _kept(run: Path, last_epoch: int | None) -> tuple[dict[str, pd.Series], dict[str, int]]:
    """The columns of an earlier ``--with`` for the same epochs, and the epochs of their weights."""
    path = run / "scores.parquet"
    settings = files.table_settings(path) if path.exists() else {}
    if settings.get("last_epoch") != last_epoch:
        return {}, {}
    table = files.read_table(path).to_pandas()
    columns = {name: table[name] for name in table.columns if name not in (*NOT_SCORES, *FREE)}
    return columns, settings.get("asked", {})


def _network_scores(
    config: Score, run: Path, info: dict[str, Any], names: list[str]
) -> dict[str, tuple[np.ndarray, int]]:
    """The scores that need the network, and the epoch of its weights. Coherence goes to its own file."""
    # Nothing else in this stage needs torch.
    from hardness.probes.subset_coherence import subset_coherence
    from hardness.probes.tracked_run import network_score, open_tracked
    from hardness.resources import Resources

    check_has_network(run, info, "--with and --coherence")
    split = config.split or newest_split(run) if config.coherence else None
    if split is not None:
        split_settings(split)
    tracked = open_tracked(run, info, config.data, Resources.of(config.device, config.workers))
    results = {name: network_score(tracked, name, config.epoch) for name in names}
    if split is not None:
        say(f"wrote {subset_coherence(tracked, split, config.coherence_sample)}")
    return results


def _info(run: Path) -> dict[str, Any]:
    """run.json, or its equivalent for the records of another program."""
    if is_own(run):
        return complete(run)
    if (run / "run.json").exists():
        return read_info(run)
    raise not_a_run(run, "records (dynamics/epoch=1/, ...)")


def _last_epoch(run: Path, info: dict[str, Any]) -> int | None:
    """The last complete epoch: a killed run may have records of only some ranks in one more."""
    if info.get("record_mode") == OWN:
        return info["config"]["epochs"]
    epochs = store.recorded_epochs(run)
    if not epochs:
        return None
    if info["status"] != "finished":
        remark(f"{run} is not finished (status: {info['status']}): only its complete epochs are scored")
        if len(epochs) > 1 and not store.is_whole(run, epochs[-1]):
            remark(f"epoch {epochs.pop()} is incomplete: skipped")
    elif (expected := info.get("config", {}).get("epochs", epochs[-1])) != epochs[-1]:
        sentence = "{run} finished {expected} epochs, but its records end at epoch {found}."
        values = {"run": str(run), "expected": expected, "found": epochs[-1]}
        raise UserError("lost-records", sentence, "Restore dynamics/.", **values)
    return epochs[-1]


def _given_labels(runs: tuple[Path, ...]) -> np.ndarray:
    """(N,): runs are pooled per example, so they must have the same examples and given labels."""
    found = [store.read_epoch(run, 1).given_label for run in runs]
    check_same("number of examples", runs, list(map(len, found)))
    # -1: not recorded in epoch 1.
    labels = np.maximum.reduce(found)
    for each in found:
        for example in np.flatnonzero((each != labels) & (each >= 0))[:1]:
            check_same(f"given label of example {example}", runs, [int(each[example]) for each in found])
    return labels


def _describe(found: pd.DataFrame, title: str) -> None:
    rows = []
    for name in found.columns.drop("example_id"):
        values = found[name].astype("Float64")
        parts = (values.quantile(q) if values.notna().any() else None for q in (0, 0.5, 1))
        rows.append([name, *("" if part is None else f"{part:.4g}" for part in parts), values.isna().sum()])
    table(title, ["score", "minimum", "median", "maximum", "null"], rows)


def _check_pool(path: Path, settings: dict[str, list[str]]) -> None:
    """A pool of other runs is not overwritten; checked before any work."""
    if path.exists() and (found := files.table_settings(path)) != settings:
        sentence, hint = "{path} is the pool of other runs: {runs}.", "Choose another --out."
        others = " ".join(found.get("runs", ["unknown"]))
        raise UserError("pool-of-other-runs", sentence, hint, path=str(path), runs=others)


def _compare(
    pooled: Path, runs: tuple[Path, ...], infos: list[dict], tables: list[pd.DataFrame], labels: np.ndarray
) -> None:
    """Write POOL-agreement.parquet beside the pooled table; print how well pairs of runs agree."""
    settings = {str(run): training_settings(info) for run, info in zip(runs, infos, strict=True)}
    found = agreement(tables, labels, settings)
    path = pooled.with_name(f"{pooled.stem}-agreement.parquet")
    files.write_table(path, found, infos[0].get("fingerprint") or "", {"runs": list(settings)})
    summary = over_pairs(found)
    chance, num_examples = summary[["chance", "num_examples"]].iloc[0]
    by_chance = "undefined: too few examples" if np.isnan(chance) else f"by chance {chance:.2g}"
    say(
        f"Spearman correlation of two runs over {num_examples:,.0f} examples: mean over the pairs "
        "[lowest and highest end of their 95 % intervals]; easy, hard: overlap of the easiest and of the "
        f"hardest fifths ({by_chance})"
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
    interval = f"{row['spearman']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
    return f"{interval}, {row['num_constant']} constant" if row["num_constant"] else interval
