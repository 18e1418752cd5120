"""What a report says of runs: a section a question, with its words, its numbers and its figures."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from hardness import files
from hardness.agreement import agreement
from hardness.dynamics.coherence import WHOLE
from hardness.dynamics.pool import common_scores
from hardness.equal_loss import coherence_estimates, coherence_sentences
from hardness.figures import agreement as agreement_figure
from hardness.figures import (
    coherence,
    controls,
    equal_pristine,
    first_learned,
    label_errors,
    noise_curves,
    style,
    subset_curves,
    transfer,
)
from hardness.label_errors import can_be_judged, detection
from hardness.stages.run_folder import OBSERVING, OPERATIONAL, training_settings
from hardness.stages.split import DEFAULTS
from hardness.statistics import Estimate
from hardness.verdicts import agreement_sentences, hardness_sentences, hardness_verdicts, memorization
from hardness.verdicts import equal_pristine as read_across

_UNCOMMON = {"stem": "standard", "schedule": "constant", "weight_decay": 0.0, "momentum": None}
# Settings in which runs of one group may differ: seeds, what follows from them, and what is looked at.
_NOT_COMPARED = {"seed", "noise_seed", "split", "tracking_seeds", "runs", *OBSERVING, *OPERATIONAL}


@dataclass(frozen=True)
class Drawing:
    """A figure on the page."""

    name: str
    caption: str


@dataclass
class Section:
    """A question, its verdicts in words, the estimates behind them, its figures."""

    title: str
    settings: str
    sentences: list[str] = field(default_factory=list)
    estimates: dict[str, Estimate] = field(default_factory=dict)
    drawings: list[Drawing] = field(default_factory=list)


def _add(
    section: Section,
    folder: Path,
    name: str,
    caption: str,
    draw: Callable[[pd.DataFrame, str], Figure],
    table: pd.DataFrame,
) -> None:
    style.save(draw, table, section.settings, folder / name)
    section.drawings.append(Drawing(name, caption))


def _alike(runs: dict[Path, dict], stage: str) -> list[list[Path]]:
    """Runs of a stage in groups that differ in their tracking seed alone."""
    groups: dict[str, list[Path]] = {}
    for path, info in runs.items():
        if info["stage"] != stage:
            continue
        config = {key: value for key, value in info["config"].items() if key not in _NOT_COMPARED}
        split = {key: value for key, value in _split_of(info).items() if key not in _NOT_COMPARED}
        same = json.dumps([info["fingerprint"], config, split, info.get("tracked")], sort_keys=True)
        groups.setdefault(same, []).append(path)
    return list(groups.values())


def _split_of(info: dict) -> dict[str, Any]:
    """The settings of a run's split, of older versions too."""
    return DEFAULTS | info.get("split", {})


def _first_learned(runs: dict[Path, dict], folder: Path) -> list[Section]:
    sections = []
    for paths in _alike(runs, "track"):
        info = runs[paths[0]]
        section = Section("When are examples first learned?", _describe_tracking(info))
        by_seed = {}
        for path in paths:
            scores = files.read_table(path / "scores.parquet", info["fingerprint"]).to_pandas()
            by_seed[_seed(runs[path])] = scores.loc[scores["mean_loss"].notna(), "first_learned_epoch"]
        section.estimates = {
            "learned in epoch 1": Estimate.of(
                [(epochs.fillna(0) == 1).mean() for epochs in by_seed.values()]
            ),
            "never learned": Estimate.of([epochs.isna().mean() for epochs in by_seed.values()]),
        }
        section.sentences.append(
            f"Share of the examples first learned in epoch 1: {section.estimates['learned in epoch 1']}; "
            f"never learned: {section.estimates['never learned']}."
        )
        _add(
            section,
            folder,
            f"first-learned-{_number(sections)}",
            "First-learned epoch: histogram, and the share learned at least once by each epoch.",
            first_learned.draw,
            first_learned.prepare(by_seed, info["config"]["epochs"]),
        )
        sections.append(section)
    return sections


def _agreement(runs: dict[Path, dict], folder: Path) -> list[Section]:
    """A section for all runs of the same examples, given labels and way of recording."""
    groups: dict[tuple, list[Path]] = {}
    for path, info in runs.items():
        if info["stage"] == "track":
            same = (info["fingerprint"], info.get("labels_fingerprint"), info["record_mode"])
            groups.setdefault(same, []).append(path)
    sections = []
    for (fingerprint, *_), paths in groups.items():
        section = Section("Do the scores agree?", _describe_compared([runs[path] for path in paths]))
        tables = [files.read_table(path / "scores.parquet", fingerprint).to_pandas() for path in paths]
        examples = files.read_table(paths[0] / "examples.parquet", fingerprint, ["given_label"])
        settings = {str(path): training_settings(runs[path]) for path in paths}
        found = agreement(tables, examples["given_label"].to_numpy(), settings)
        table = agreement_figure.prepare(found)
        section.sentences = agreement_sentences(table)
        _add(
            section,
            folder,
            f"agreement-{_number(sections)}",
            "Spearman's rank correlation, plain and within classes: of two scores of a run, and of one score "
            "in two runs.",
            agreement_figure.draw,
            table,
        )
        sections.append(section)
    return sections


def _hardness(runs: dict[Path, dict], folder: Path) -> list[Section]:
    sections = []
    for paths in _alike(runs, "retrain"):
        settings = _describe_retraining(runs[paths[0]])
        section = Section("Do easy examples generalize better amongst themselves?", settings)
        curves = pd.concat(
            [_curves(path, runs[path]).assign(tracking_seed=runs[path]["tracking_seed"]) for path in paths]
        )
        section.estimates = hardness_verdicts(curves)
        section.sentences = hardness_sentences(section.estimates)
        number = _number(sections)
        _add(
            section,
            folder,
            f"transfer-{number}",
            "Top-1 at the last epoch: trained on (rows), measured on (columns).",
            transfer.draw,
            transfer.prepare(curves),
        )
        _add(
            section,
            folder,
            f"subset-curves-{number}",
            "Retraining: accuracy and loss on the own train fold, on the own test fold, and on the subset's "
            "test fold, where easy and hard meet their class-matched controls.",
            subset_curves.draw,
            subset_curves.prepare(curves),
        )
        if _split_of(runs[paths[0]])["controls"] > 1:
            _add(
                section,
                folder,
                f"controls-{number}",
                "Top-1 on the test folds of easy and of hard, at the last epoch: trained on the subset "
                "itself, and on each of its controls, which show what chance gives.",
                controls.draw,
                controls.prepare(curves),
            )
        sections.append(section)
    return sections


def _memorization(runs: dict[Path, dict], folder: Path) -> list[Section]:
    sections = []
    for path, info in runs.items():
        if info["stage"] != "memorize":
            continue
        section = Section("Does the median stop memorization?", _describe_memorization(info))
        curves = _curves(path, info)
        number = _number(sections)
        levels = {}
        for noise, level in curves.groupby("noise", sort=False):
            verdict = memorization(level)
            section.sentences += verdict.sentences
            section.estimates |= {f"noise {noise:g}: {k}": v for k, v in verdict.estimates.items()}
            if (across := read_across(level)) is not None:
                levels[noise] = across
        if levels:
            _add(
                section,
                folder,
                f"equal-pristine-{number}",
                "Accuracy on corrupt examples at the epoch at which pristine accuracy first reaches a level, "
                "so that slower learning is not mistaken for less memorization.",
                equal_pristine.draw,
                equal_pristine.prepare(levels),
            )
        _add(
            section,
            folder,
            f"noise-curves-{number}",
            "Accuracy and loss by epoch: pristine against corrupt examples, training examples against the "
            "clean validation set.",
            noise_curves.draw,
            noise_curves.prepare(curves),
        )
        sections.append(section)
    return sections


def _coherence(runs: dict[Path, dict], folder: Path) -> list[Section]:
    """A section for runs whose gradients were looked at, and which groups of examples they were of."""
    sections = []
    for paths in _alike(runs, "track"):
        tables = []
        for path in paths:
            if (path / "coherence.parquet").exists():
                found = files.read_table(path / "coherence.parquet", runs[path]["fingerprint"]).to_pandas()
                tables.append(found[found["layer"] == WHOLE].assign(seed=_seed(runs[path])))
        table = pd.concat(tables).dropna(subset="coherence") if tables else pd.DataFrame()
        if table.empty:
            continue
        sizes = sorted(set(table["num_examples"]))
        section = Section(
            "Do the gradients of easy examples agree?",
            f"{_describe_tracking(runs[paths[0]])}; {' or '.join(map(str, sizes))} examples of each group, "
            "as many of each class",
        )
        section.estimates = coherence_estimates(table)
        section.sentences = coherence_sentences(section.estimates)
        _add(
            section,
            folder,
            f"coherence-{_number(sections)}",
            "Mean inner product of the gradients of two examples over their mean squared norm (the form of "
            "m-coherence that does not depend on m), over training and where mean losses are equal.",
            coherence.draw,
            coherence.prepare(table),
        )
        sections.append(section)
    return sections


def _label_errors(runs: dict[Path, dict], folder: Path) -> list[Section]:
    sections = []
    for paths in _alike(runs, "track"):
        judged = {}
        for path in paths:
            fingerprint = runs[path]["fingerprint"]
            examples = files.read_table(path / "examples.parquet", fingerprint).to_pandas()
            scores = files.read_table(path / "scores.parquet", fingerprint).to_pandas()
            is_corrupt = examples["is_corrupt"].to_numpy()
            if can_be_judged(scores, is_corrupt):
                judged[_seed(runs[path])] = scores, is_corrupt
        if not judged:
            continue
        common = common_scores([scores for scores, _ in judged.values()])
        judged = {seed: (scores[["example_id", *common]], truth) for seed, (scores, truth) in judged.items()}
        section = Section("Which scores find the wrong labels?", _describe_tracking(runs[paths[0]]))
        found = pd.concat([detection(*each) for each in judged.values()])
        for name, rows in found.groupby("score", sort=False):
            for value in ("auroc", "average_precision"):
                section.estimates[f"{name}: {value.replace('_', ' ')}"] = Estimate.of(rows[value])
        chance = (found["num_corrupt"] / found["num_examples"]).mean()
        best = max(common, key=lambda name: section.estimates[f"{name}: average precision"].mean)
        section.sentences.append(
            f"Of {len(common)} scores {best} finds the corrupt labels best: average precision "
            f"{section.estimates[f'{best}: average precision']} (by chance alone {chance:.3f}), AUROC "
            f"{section.estimates[f'{best}: auroc']}."
        )
        _add(
            section,
            folder,
            f"label-errors-{_number(sections)}",
            "How well each score ranks corrupt labels before pristine ones, and precision by recall of the "
            "five best.",
            label_errors.draw,
            label_errors.prepare(found, judged),
        )
        sections.append(section)
    return sections


def _seed(info: dict) -> str:
    """What tells a run from those like it: its seed, and under label noise that of its labels."""
    noise = f", labels {info['config']['noise_seed']}" if info["config"]["noise"] else ""
    return f"{info['seed']}{noise}"


def _number(sections: list[Section]) -> int:
    return len(sections) + 1


def _curves(path: Path, info: dict) -> pd.DataFrame:
    return files.read_table(path / "curves.parquet", info["fingerprint"]).to_pandas()


def _describe_tracking(info: dict) -> str:
    config = info["config"]
    noise = f", label noise {config['noise']:g}" if config["noise"] else ""
    return f"{describe_data(info)}, {describe_training(config)}{noise}, {info['record_mode']} records"


def _describe_compared(infos: list[dict]) -> str:
    models = ", ".join(dict.fromkeys(info["config"]["model"] for info in infos))
    optimizers = ", ".join(dict.fromkeys(info["config"]["optimizer"] for info in infos))
    noise = infos[0].get("noise_rate")
    corrupt = f", {noise:.2g} of the labels corrupt" if noise else ""
    runs = "one run" if len(infos) == 1 else f"{len(infos)} runs"
    data = f"{describe_data(infos[0])}{corrupt}, {infos[0]['record_mode']} records"
    return f"{data}, {runs} of {models} with {optimizers}"


def _describe_retraining(info: dict) -> str:
    split = _split_of(info)
    rule = (
        f"correct at epoch {split['epoch']}"
        if split["rule"] == "learned-by"
        else f"quantile {split['quantile']:g} of {split['by']}"
    )
    within = " within each class" if split["balance"] == "class" else ""
    controls = f", {split['controls']} controls each" if split["controls"] > 1 else ""
    twins = ", without near-duplicates" if split["drop_twins"] else ""
    config = info["config"]
    return (
        f"{describe_data(info)}, {rule}{within}{twins}{controls}, {info['record_mode']} records, "
        f"{describe_training(config)}, {config['seeds']} retrainings a tracking seed"
    )


def _describe_memorization(info: dict) -> str:
    return f"{describe_data(info)}, {describe_training(info['config'])}"


def describe_data(info: dict) -> str:
    config = info["config"]
    kind, _, place = (config["data"] or info["tracked"]["data"]).partition(":")
    size = " x ".join(map(str, info["data"]["image_shape"][1:]))
    name = Path(place).name or kind
    return (
        f"{name} ({info['data']['num_train']:,} images, {len(info['data']['class_names'])} classes, {size})"
    )


def describe_training(config: dict) -> str:
    """The settings of training; those that are often left alone only where they were not."""
    optimizer = f" {config['optimizer']}" if "optimizer" in config else ""
    uncommon = [
        f", {name.replace('_', ' ')} {value}"
        for name, value in config.items()
        if name in _UNCOMMON and value not in (None, _UNCOMMON[name])
    ]
    return (
        f"{config['model']},{optimizer} lr {config['lr']:g}, batch {config['batch_size']}, "
        f"{config['epochs']} epochs{''.join(uncommon)}"
    )


SECTIONS = (_first_learned, _agreement, _coherence, _hardness, _memorization, _label_errors)
"""In the order of the page: each of (run folder -> run.json, folder for figures) -> its sections."""
