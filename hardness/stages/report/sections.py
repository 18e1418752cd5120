"""What a report says of runs: a section a question, with its words, its numbers and its figures."""

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
from hardness.verdicts import equal_pristine as read_across
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

_NOT_READ = (
    "Not answered here: it takes label noise strictly between none and all, runs that learn, and a median "
    "beside SGD or its own control."
)


def _hardness(runs: Runs) -> list[Section]:
    sections = []
    for group, settings in described(runs, "retrain", describe_retraining):
        section = Section("Do easy examples generalize better amongst themselves?", settings, list(group))
        curves = _retraining(group)
        section.estimates = hardness_verdicts(curves)
        section.words = hardness_words(section.estimates)
        section.add(
            subset_bars,
            subset_bars.prepare({"": section.estimates}),
            "Top-1 at the last epoch on the own test fold, of easy and hard and of the random sets of the "
            "same classes; and the differences between them.",
        )
        section.add(
            transfer,
            transfer.prepare(curves),
            "Top-1 at the last epoch: trained on (rows), measured on (columns).",
        )
        section.add(
            subset_curves,
            subset_curves.prepare(curves),
            "Retraining: accuracy and loss on the own train fold, on the own test fold, and on the subset's "
            "test fold, where easy and hard meet their class-matched controls.",
        )
        if split_of(first(group))["controls"] > 1:
            section.add(
                controls,
                controls.prepare(curves),
                "Top-1 on the test folds of easy and of hard, at the last epoch: trained on the subset "
                "itself, and on each of its controls, which show what chance gives.",
            )
        sections.append(section)
    return sections


def _memorization(runs: Runs) -> list[Section]:
    sections = []
    for group, settings in described(runs, "memorize", describe_memorization):
        section = Section("Does the median stop memorization?", settings, list(group))
        parts = [_curves(path, info) for path, info in group.items()]
        curves = pd.concat(parts).sort_values("noise", kind="stable")
        levels, told = {}, []
        for noise, level in curves.groupby("noise", sort=False):
            found = memorization(level)
            told.append(memorization_words(found))
            section.estimates |= {f"noise {noise:g}: {k}": v for k, v in found.estimates.items()}
            if (across := read_across(level)) is not None:
                levels[noise] = across
        section.words = Words(
            " ".join(words.headline for words in told if words.headline) or _NOT_READ,
            [sentence for words in told for sentence in words.sentences],
            {name: value for words in told for name, value in words.numbers.items()},
            list(dict.fromkeys(caution for words in told for caution in words.cautions)),
        )
        if levels:
            section.add(
                equal_pristine,
                equal_pristine.prepare(levels),
                "Accuracy on corrupt examples at the epoch at which pristine accuracy first reaches a level, "
                "so that slower learning is not mistaken for less memorization.",
            )
        section.add(
            noise_curves,
            noise_curves.prepare(curves),
            "Accuracy and loss by epoch: pristine against corrupt examples, training examples against the "
            "clean validation set.",
        )
        sections.append(section)
    return sections


def _side_by_side(runs: Runs) -> list[Section]:
    """Several models, data sets or ways to split, on the same axes."""
    section = Section("Side by side", "", [])
    told = []
    tracked = described(runs, "track", describe_tracking)
    if len(tracked) > 1:
        names = distinct([settings for _, settings in tracked])
        logs = {name: _logs(group) for name, (group, _) in zip(names, tracked, strict=True)}
        if logs := {name: by_seed for name, by_seed in logs.items() if by_seed}:
            section.add(
                tracking_curves, tracking_curves.prepare(logs), "How each of the tracked networks learned."
            )
            told.append(f"{len(tracked)} ways to track")
    retrained = described(runs, "retrain", describe_retraining)
    if len(retrained) > 1:
        names = distinct([settings for _, settings in retrained])
        found = [hardness_verdicts(_retraining(group)) for group, _ in retrained]
        section.add(
            subset_bars,
            subset_bars.prepare(dict(zip(names, found, strict=True))),
            "Within-subset accuracy and own-subset advantage of each way to track, split and retrain.",
        )
        told.append(f"{len(retrained)} ways to retrain")
    section.settings = ", ".join(told)
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
            section.add(
                tracking_curves,
                tracking_curves.prepare({section.settings: logs}),
                "How the network learned: training examples, validation set, losses.",
            )
        section.add(
            first_learned,
            first_learned.prepare(by_seed, num_epochs),
            "First-learned epoch: histogram, and the share learned at least once by each epoch.",
        )
        labels = {
            seed_of(info): _given_labels(path, info)[is_readable[seed_of(info)]]
            for path, info in group.items()
        }
        section.add(
            learned_by_class,
            learned_by_class.prepare(by_seed, labels, info["data"]["class_names"], num_epochs),
            "Share of each class learned at least once by each epoch: the range and the quartiles over "
            "classes, and the classes that come first and last.",
        )
        section.add(
            data_map,
            data_map.prepare(tables, num_epochs),
            "The data map: mean and standard deviation over the epochs of the given label's probability; "
            "a larger hexagon holds more examples.",
        )
        section.add(
            forgetting,
            forgetting.prepare(tables),
            "Forgetting events (correct in one record, wrong in the next), and how many those have that are "
            "learned late.",
        )
        sections.append(section)
    return sections


def agreements(runs: Runs) -> list[Section]:
    """A section for all runs of the same examples, given labels and way of recording."""
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
        table = agreement_figure.prepare(agreement(tables, given_labels, settings))
        section.words = agreement_words(table)
        section.add(
            agreement_figure,
            table,
            "Spearman's rank correlation, plain and within classes: of two scores of a run, and of one score "
            "in two runs.",
        )
        sections.append(section)
    return sections


def _coherence(runs: Runs) -> list[Section]:
    """A section for runs whose gradients were looked at, and which groups of examples they were of."""
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
            "Do the gradients of easy examples agree?",
            f"{settings}; {' or '.join(map(str, sizes))} examples of each group, as many of each class",
            list(group),
        )
        section.estimates = coherence_estimates(table)
        words = coherence_words(section.estimates)
        sizes = {f"examples of a group, {number}": int(size) for number, size in enumerate(sizes, 1)}
        section.words = Words(words.headline, words.sentences, sizes)
        section.add(
            coherence,
            coherence.prepare(table),
            "Mean inner product of the gradients of two examples over their mean squared norm (the form of "
            "m-coherence that does not depend on m), over training and where mean losses are equal.",
        )
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
        section = Section("Which scores find the wrong labels?", settings, list(group))
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
        section.add(
            label_errors,
            label_errors.prepare(found, judged),
            "How well each score ranks corrupt labels before pristine ones, and precision by recall of the "
            "best of them.",
        )
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
    """Seed -> log.jsonl with the share learned by each epoch, of those runs that have one."""
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
    _side_by_side,
    _first_learned,
    agreements,
    _coherence,
    _label_errors,
)
"""In the order of the page: each of (run folder -> run.json) -> its sections."""


def all_sections(runs: Runs) -> list[Section]:
    """Everything that the runs say, in the order of the page; figures are numbered along it."""
    sections = [section for part in SECTIONS for section in part(runs)]
    numbers = Counter()
    for drawing in (drawing for section in sections for drawing in section.drawings):
        numbers[drawing.name] += 1
        drawing.name = f"{drawing.name}-{numbers[drawing.name]}"
    return sections
