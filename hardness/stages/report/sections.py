"""The sections of a report: each a question with its answer in words, its numbers and its figures."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from hardness import files
from hardness.agreement import agreement
from hardness.dynamics.coherence import WHOLE
from hardness.dynamics.pool import common_scores
from hardness.equal_loss import coherence_estimates
from hardness.figures import agreement as agreement_figure
from hardness.figures import (
    coherence,
    controls,
    data_map,
    equal_pristine,
    first_learned,
    forgetting,
    label_errors,
    learned_by_class,
    noise_curves,
    subset_bars,
    subset_curves,
    tracking_curves,
    transfer,
)
from hardness.label_errors import can_be_judged, detection
from hardness.stages.report.describe import (
    Runs,
    describe_compared,
    describe_memorization,
    describe_retraining,
    describe_tracking,
    described,
    distinct,
    first,
    seed_of,
)
from hardness.stages.report.section import Section
from hardness.stages.run_folder import read_log
from hardness.stages.run_settings import training_settings
from hardness.stages.split import split_of
from hardness.statistics import Estimate
from hardness.verdicts import equal_pristine as equal_pristine_accuracy
from hardness.verdicts import hardness_verdicts, memorization
from hardness.wording import (
    Words,
    agreement_words,
    coherence_words,
    first_learned_words,
    hardness_words,
    label_error_words,
    memorization_words,
)

_NOT_ANSWERED = (
    "Not answered: this needs label noise strictly between 0 and 1, runs that learn, and a median (m3 or "
    "rm3) with SGD or its own control."
)


def _hardness(runs: Runs) -> list[Section]:
    sections = []
    for group, settings in described(runs, "retrain", describe_retraining):
        section = Section("Do easy examples generalize better within their own set?", settings, list(group))
        curves = _retraining(group)
        section.estimates = hardness_verdicts(curves)
        section.words = hardness_words(section.estimates)
        section.add(subset_bars, {"": section.estimates})
        section.add(transfer, curves)
        section.add(subset_curves, curves)
        if split_of(first(group))["controls"] > 1:
            section.add(controls, curves)
        sections.append(section)
    return sections


def _memorization(runs: Runs) -> list[Section]:
    sections = []
    for group, settings in described(runs, "memorize", describe_memorization):
        section = Section("Does the median of gradients reduce memorization?", settings, list(group))
        parts = [_curves(path, info) for path, info in group.items()]
        curves = pd.concat(parts).sort_values("noise", kind="stable")
        levels, texts = {}, []
        for noise, level in curves.groupby("noise", sort=False):
            found = memorization(level)
            texts.append(memorization_words(found))
            section.estimates |= {f"noise {noise:g}: {k}": v for k, v in found.estimates.items()}
            if (equal := equal_pristine_accuracy(level)) is not None:
                levels[noise] = equal
        section.words = Words(
            " ".join(words.headline for words in texts if words.headline) or _NOT_ANSWERED,
            [sentence for words in texts for sentence in words.sentences],
            {name: value for words in texts for name, value in words.numbers.items()},
            list(dict.fromkeys(caution for words in texts for caution in words.cautions)),
        )
        if levels:
            section.add(equal_pristine, levels)
        section.add(noise_curves, curves)
        sections.append(section)
    return sections


def _comparison(runs: Runs) -> list[Section]:
    """Several models, data sets or kinds of splits in the same axes."""
    section = Section("Comparison of settings", "", [])
    texts = []
    tracked = described(runs, "track", describe_tracking)
    if len(tracked) > 1:
        names = distinct([settings for _, settings in tracked])
        logs = {name: _logs(group) for name, (group, _) in zip(names, tracked, strict=True)}
        if logs := {name: by_seed for name, by_seed in logs.items() if by_seed}:
            section.add(tracking_curves, logs)
            texts.append(f"{len(tracked)} settings of tracking")
    retrained = described(runs, "retrain", describe_retraining)
    if len(retrained) > 1:
        names = distinct([settings for _, settings in retrained])
        found = [hardness_verdicts(_retraining(group)) for group, _ in retrained]
        section.add(subset_bars, dict(zip(names, found, strict=True)))
        texts.append(f"{len(retrained)} settings of retraining")
    section.settings = ", ".join(texts)
    section.runs = [path for group, _ in (*tracked, *retrained) for path in group]
    return [section] if section.drawings else []


def _first_learned(runs: Runs) -> list[Section]:
    sections = []
    for group, settings in described(runs, "track", describe_tracking):
        info = first(group)
        section = Section("When are examples first learned?", settings, list(group))
        tables = {seed_of(info): _scores(path, info) for path, info in group.items()}
        is_readable = {seed: scores["mean_loss"].notna() for seed, scores in tables.items()}
        by_seed = {
            seed: scores.loc[is_readable[seed], "first_learned_epoch"] for seed, scores in tables.items()
        }
        section.estimates = {
            "learned in epoch 1": Estimate.of([(e.fillna(0) == 1).mean() for e in by_seed.values()]),
            "never learned": Estimate.of([e.isna().mean() for e in by_seed.values()]),
        }
        section.words = first_learned_words(section.estimates, info["record_mode"])
        num_epochs = info["config"]["epochs"]
        if logs := _logs(group):
            section.add(tracking_curves, {section.settings: logs})
        section.add(first_learned, by_seed, num_epochs)
        labels = {
            seed_of(info): _given_labels(path, info)[is_readable[seed_of(info)]]
            for path, info in group.items()
        }
        section.add(learned_by_class, by_seed, labels, info["data"]["class_names"], num_epochs)
        section.add(data_map, tables, num_epochs)
        section.add(forgetting, tables)
        sections.append(section)
    return sections


def agreements(runs: Runs) -> list[Section]:
    """One section for all runs of the same examples, given labels and record mode."""
    groups: dict[tuple, Runs] = {}
    for path, info in runs.items():
        if info["stage"] == "track":
            same = (info["fingerprint"], info.get("labels_fingerprint"), info["record_mode"])
            groups.setdefault(same, {})[path] = info
    sections = []
    for group in groups.values():
        section = Section("Do the scores agree?", describe_compared(list(group.values())), list(group))
        tables = [_scores(path, info) for path, info in group.items()]
        given_labels = _given_labels(*next(iter(group.items())))
        settings = {str(path): training_settings(info) for path, info in group.items()}
        table = section.add(agreement_figure, agreement(tables, given_labels, settings))
        section.words = agreement_words(table)
        sections.append(section)
    return sections


def _coherence(runs: Runs) -> list[Section]:
    """One section per group of runs with coherence measurements."""
    sections = []
    for group, settings in described(runs, "track", describe_tracking):
        tables = []
        for path, info in group.items():
            if (path / "coherence.parquet").exists():
                found = files.read_table(path / "coherence.parquet", info["fingerprint"]).to_pandas()
                tables.append(found[found["layer"] == WHOLE].assign(seed=seed_of(info)))
        table = pd.concat(tables).dropna(subset="coherence") if tables else pd.DataFrame()
        if table.empty:
            continue
        sizes = sorted(set(table["num_examples"]))
        section = Section(
            "Are the gradients of easy examples more coherent?",
            f"{settings}; {' or '.join(map(str, sizes))} examples per group, with the same class histogram",
            list(group),
        )
        section.estimates = coherence_estimates(table)
        words = coherence_words(section.estimates)
        sizes = {f"examples per group, {number}": int(size) for number, size in enumerate(sizes, 1)}
        section.words = Words(words.headline, words.sentences, sizes)
        section.add(coherence, table)
        sections.append(section)
    return sections


def _label_errors(runs: Runs) -> list[Section]:
    sections = []
    for group, settings in described(runs, "track", describe_tracking):
        judged = {}
        for path, info in group.items():
            scores = _scores(path, info)
            is_corrupt = _column(path, info, "is_corrupt")
            if can_be_judged(scores, is_corrupt):
                judged[seed_of(info)] = scores, is_corrupt
        if not judged:
            continue
        common = common_scores([scores for scores, _ in judged.values()])
        judged = {seed: (scores[["example_id", *common]], truth) for seed, (scores, truth) in judged.items()}
        section = Section("Which scores detect wrong labels?", settings, list(group))
        found = pd.concat([detection(*each) for each in judged.values()])
        for name, rows in found.groupby("score", sort=False):
            for value in ("auroc", "average_precision"):
                section.estimates[f"{name}: {value.replace('_', ' ')}"] = Estimate.of(rows[value])
        chance = float((found["num_corrupt"] / found["num_examples"]).mean())
        by_score = found.groupby("score")["average_precision"]
        best, second = by_score.mean().sort_values(ascending=False, kind="stable").index[:2]
        ahead = by_score.get_group(best).to_numpy() - by_score.get_group(second).to_numpy()
        section.estimates[f"{best} - {second}: average precision"] = Estimate.of(ahead)
        section.words = label_error_words(section.estimates, best, second, len(common), chance)
        section.add(label_errors, found, judged)
        sections.append(section)
    return sections


def _curves(path: Path, info: dict) -> pd.DataFrame:
    return files.read_table(path / "curves.parquet", info["fingerprint"]).to_pandas()


def _retraining(group: Runs) -> pd.DataFrame:
    parts = [_curves(path, info).assign(tracking_seed=info["tracking_seed"]) for path, info in group.items()]
    return pd.concat(parts)


def _scores(path: Path, info: dict) -> pd.DataFrame:
    return files.read_table(path / "scores.parquet", info["fingerprint"]).to_pandas()


def _column(path: Path, info: dict, name: str) -> np.ndarray:
    return files.read_table(path / "examples.parquet", info["fingerprint"], [name])[name].to_numpy()


def _given_labels(path: Path, info: dict) -> np.ndarray:
    return _column(path, info, "given_label")


def _logs(group: Runs) -> dict[str, pd.DataFrame]:
    """Seed -> log.jsonl, if a run has one, with the fraction learned by each epoch."""
    logs = {}
    for path, info in group.items():
        if (log := pd.DataFrame(read_log(path))).empty:
            continue
        scores = _scores(path, info)
        epochs = scores.loc[scores["mean_loss"].notna(), "first_learned_epoch"]
        learned = epochs.value_counts().reindex(log["epoch"], fill_value=0).cumsum() / len(epochs)
        logs[seed_of(info)] = log.assign(learned=learned.to_numpy(np.float64))
    return logs


SECTIONS = (
    _hardness,
    _memorization,
    _comparison,
    _first_learned,
    agreements,
    _coherence,
    _label_errors,
)
"""In the order of the page: functions from (run folder -> run.json) to sections."""


def all_sections(runs: Runs) -> list[Section]:
    """All sections, in the order of the page; figures of one kind are numbered in this order."""
    sections = [section for part in SECTIONS for section in part(runs)]
    numbers = Counter()
    for drawing in (drawing for section in sections for drawing in section.drawings):
        numbers[drawing.name] += 1
        drawing.name = f"{drawing.name}-{numbers[drawing.name]}"
    return sections
