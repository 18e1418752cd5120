"""The sections of a report: each a question with its answer in words, its numbers and its figures."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from hardness import files
from hardness.dynamics.coherence import WHOLE
from hardness.dynamics.pool import common_scores
from hardness.findings.agreement import agreement, agreement_words
from hardness.findings.coherence import Coherence
from hardness.findings.first_learned import FirstLearned
from hardness.findings.generalization import Generalization
from hardness.findings.label_errors import LabelErrors, can_be_judged, detection
from hardness.findings.memorization import EqualPristine, Memorization
from hardness.page.describe import Runs, describe_compared, described, distinct, first, seed_of
from hardness.page.section import Section
from hardness.runs.reading import has_logits, read_log
from hardness.runs.settings import split_of, training_settings


def _generalization(runs: Runs) -> Iterator[Section]:
    title = "Do easy examples generalize better within their own set?"
    for group, settings in described(runs, "retrain"):
        curves = _retraining(group)
        found = Generalization.of(curves)
        section = Section(title, settings, list(group), found.words(), found.estimates())
        section.add("subset_bars", {"": found})
        section.add("transfer", curves)
        section.add("subset_curves", curves)
        if split_of(first(group))["controls"] > 1:
            section.add("controls", curves)
        yield section


def _memorization(runs: Runs) -> Iterator[Section]:
    title = "Does the median of gradients reduce memorization?"
    for group, settings in described(runs, "memorize"):
        parts = [_table(path, info, "curves") for path, info in group.items()]
        curves = pd.concat(parts).sort_values("noise", kind="stable")
        found = Memorization.of(curves)
        section = Section(title, settings, list(group), found.words(), found.estimates())
        if levels := [reading for reading in found.readings if isinstance(reading, EqualPristine)]:
            section.add("equal_pristine", levels)
        section.add("noise_curves", curves)
        yield section


def _comparison(runs: Runs) -> Iterator[Section]:
    """Several models, data sets or kinds of splits in the same axes."""
    section = Section("Comparison of settings", "", [])
    texts = []
    tracked = described(runs, "track")
    if len(tracked) > 1:
        names = distinct([settings for _, settings in tracked])
        logs = {name: _logs(group) for name, (group, _) in zip(names, tracked, strict=True)}
        if logs := {name: by_seed for name, by_seed in logs.items() if by_seed}:
            section.add("tracking_curves", logs)
            texts.append(f"{len(tracked)} settings of tracking")
    retrained = described(runs, "retrain")
    if len(retrained) > 1:
        names = distinct([settings for _, settings in retrained])
        found = [Generalization.of(_retraining(group)) for group, _ in retrained]
        section.add("subset_bars", dict(zip(names, found, strict=True)))
        texts.append(f"{len(retrained)} settings of retraining")
    section.settings = ", ".join(texts)
    section.runs = [path for group, _ in (*tracked, *retrained) for path in group]
    if section.drawings:
        yield section


def _first_learned(runs: Runs) -> Iterator[Section]:
    title = "When are examples first learned?"
    runs = {path: info for path, info in runs.items() if has_logits(info)}
    for group, settings in described(runs, "track"):
        tables, by_seed, labels = {}, {}, {}
        for path, info in group.items():
            seed, scores = seed_of(info), _table(path, info, "scores")
            is_readable = scores["mean_loss"].notna()
            tables[seed], by_seed[seed] = scores, scores.loc[is_readable, "first_learned_epoch"]
            labels[seed] = _column(path, info, "given_label")[is_readable]
        found, num_epochs = FirstLearned.of(by_seed.values()), info["config"]["epochs"]
        words = found.words(info["record_mode"])
        section = Section(title, settings, list(group), words, found.estimates())
        if logs := _logs(group):
            section.add("tracking_curves", {settings: logs})
        section.add("first_learned", by_seed, num_epochs)
        section.add("learned_by_class", by_seed, labels, info["data"]["class_names"], num_epochs)
        section.add("data_map", tables, num_epochs)
        section.add("forgetting", tables)
        yield section


def agreements(runs: Runs) -> Iterator[Section]:
    """One section for all runs of the same examples, given labels and record mode."""
    groups: dict[tuple, Runs] = {}
    for path, info in runs.items():
        if info["stage"] == "track":
            same = (info["fingerprint"], info.get("labels_fingerprint"), info["record_mode"])
            groups.setdefault(same, {})[path] = info
    for group in groups.values():
        section = Section("Do the scores agree?", describe_compared(list(group.values())), list(group))
        tables = [_table(path, info, "scores") for path, info in group.items()]
        labels = _column(*next(iter(group.items())), "given_label")
        settings = {str(path): training_settings(info) for path, info in group.items()}
        section.words = agreement_words(section.add("agreement", agreement(tables, labels, settings)))
        yield section


def _coherence(runs: Runs) -> Iterator[Section]:
    """One section per group of runs with coherence measurements."""
    for group, settings in described(runs, "track"):
        tables = []
        for path, info in group.items():
            if (path / "coherence.parquet").exists():
                found = _table(path, info, "coherence")
                tables.append(found[found["layer"] == WHOLE].assign(seed=seed_of(info)))
        table = pd.concat(tables).dropna(subset="coherence") if tables else pd.DataFrame()
        if table.empty:
            continue
        sizes = sorted(set(table["num_examples"]))
        found = Coherence.of(table)
        numbers = {f"examples per group, {number}": int(size) for number, size in enumerate(sizes, 1)}
        section = Section(
            "Are the gradients of easy examples more coherent?",
            f"{settings}; {' or '.join(map(str, sizes))} examples per group, with the same class histogram",
            list(group),
            replace(found.words(), numbers=numbers),
            found.estimates(),
        )
        section.add("coherence", table)
        yield section


def _label_errors(runs: Runs) -> Iterator[Section]:
    title = "Which scores detect wrong labels?"
    for group, settings in described(runs, "track"):
        judged = {}
        for path, info in group.items():
            scores = _table(path, info, "scores")
            known = files.column_names(path / "examples.parquet")
            is_corrupt = _column(path, info, "is_corrupt") if "is_corrupt" in known else np.zeros(len(scores))
            if can_be_judged(scores, is_corrupt):
                judged[seed_of(info)] = scores, is_corrupt
        if not judged:
            continue
        common = common_scores([scores for scores, _ in judged.values()])
        judged = {seed: (scores[["example_id", *common]], truth) for seed, (scores, truth) in judged.items()}
        rows = pd.concat([detection(*each) for each in judged.values()])
        found = LabelErrors.of(rows)
        section = Section(title, settings, list(group), found.words(), found.estimates())
        section.add("label_errors", rows, judged)
        yield section


def _retraining(group: Runs) -> pd.DataFrame:
    parts = [
        _table(path, info, "curves").assign(tracking_seed=info["tracking_seed"])
        for path, info in group.items()
    ]
    return pd.concat(parts)


def _table(path: Path, info: dict, name: str) -> pd.DataFrame:
    return files.read_table(path / f"{name}.parquet", info["fingerprint"]).to_pandas()


def _column(path: Path, info: dict, name: str) -> np.ndarray:
    return files.read_table(path / "examples.parquet", info["fingerprint"], [name])[name].to_numpy()


def _logs(group: Runs) -> dict[str, pd.DataFrame]:
    """Seed -> log.jsonl, if a run has one, with the fraction learned by each epoch."""
    logs = {}
    for path, info in group.items():
        if (log := pd.DataFrame(read_log(path))).empty:
            continue
        scores = _table(path, info, "scores")
        epochs = scores.loc[scores["mean_loss"].notna(), "first_learned_epoch"]
        learned = epochs.value_counts().reindex(log["epoch"], fill_value=0).cumsum() / len(epochs)
        logs[seed_of(info)] = log.assign(learned=learned.to_numpy(np.float64))
    return logs


def all_sections(runs: Runs) -> list[Section]:
    """All sections, in the order of the page; figures of one kind are numbered in this order."""
    parts = (_generalization, _memorization, _comparison)
    parts += (_first_learned, agreements, _coherence, _label_errors)
    sections = [section for part in parts for section in part(runs)]
    counts = Counter()
    for drawing in (drawing for section in sections for drawing in section.drawings):
        counts[drawing.title] += 1
        drawing.number = counts[drawing.title]
    return sections
