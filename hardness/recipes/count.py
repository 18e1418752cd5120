"""The work of a run: epochs, and images that are trained on or evaluated."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from hardness import files
from hardness.recipes.plan import PlannedRun
from hardness.registry import STAGES
from hardness.runs.reading import read_info

_GRADIENT = 3
"""A per-example gradient takes as long as training on so many examples."""


@dataclass(frozen=True)
class Passes:
    """Numbers of images in the forward and backward passes of a whole run."""

    trained: int = 0
    evaluated: int = 0


def num_epochs(run: PlannedRun) -> int:
    """Epochs of all networks of a run, each a line of log.jsonl; 0 without training or without its split."""
    if not run.stage.entry.trains:
        return 0
    return (settings_of(run)["epochs"] or 0) * _num_networks(run)


def passes(run: PlannedRun, num_train: int, num_validation: int, num_classes: int) -> Passes:
    """The passes of a track, retrain, memorize or score run on a data set of that size.

    Overlaps of test folds are expected values; the samples of memorize are counted as disjoint, up to the
    size of the data set. Self-confidence trains five networks on four fifths of the examples each; every
    other score that needs the network counts as one evaluation.
    """
    settings, stage, epochs = settings_of(run), run.stage.entry.name, num_epochs(run)
    if stage == "track":
        seen = num_train * (settings["record"] == "eval") + num_validation
        num_groups = 3 if settings["noise"] or settings["given_labels"] else 1
        sampled = num_groups * settings["coherence_sample"] * num_measurements(settings, "coherence_every")
        return Passes(epochs * num_train + _GRADIENT * sampled, epochs * seen)
    if stage == "retrain" and epochs:
        train, _, tested = subset_sizes(source_of(run, "split"), num_train)
        # Each network is also evaluated before its first epoch.
        return Passes(epochs * train, (epochs + _num_networks(run)) * (train + tested + num_validation))
    if stage == "memorize":
        from hardness.stages.memorize import SAMPLE

        evaluated = 0
        for noise in settings["noise"]:
            num_corrupt = round(num_train * noise * (1 - 1 / num_classes))
            groups = (num_train - num_corrupt, num_corrupt, num_train)
            evaluated += min(sum(min(size, SAMPLE) for size in groups), num_train) + num_validation
        per_noise = epochs // len(settings["noise"]) + len(settings["optimizers"]) * settings["seeds"]
        return Passes(epochs * num_train, per_noise * evaluated)
    if stage == "score":
        from hardness.dynamics.scores import SCORES

        names = [name.replace("-", "_") for name in settings["with_"]]
        trained = ("self_confidence" in names) * 4 * settings["epochs"] * num_train
        if settings["coherence"]:
            num_times = max(1, num_measurements(settings, "checkpoint_every"))
            trained += _GRADIENT * 5 * settings["coherence_sample"] * num_times
        return Passes(trained, num_train * sum(SCORES[name].needs_network for name in names))
    return Passes()


def _num_networks(run: PlannedRun) -> int:
    settings = settings_of(run)
    if run.stage.entry.name == "memorize":
        return len(settings["optimizers"]) * len(settings["noise"]) * settings["seeds"]
    if run.stage.entry.name == "retrain":
        split = source_of(run, "split")
        return num_subsets(split) * settings["seeds"] if split else 0
    return 1


def num_subsets(split: dict[str, Any]) -> int:
    return 3 + 2 * split["controls"]


def num_measurements(settings: dict[str, Any], every: str) -> int:
    """Measurements before training and at every N-th epoch; 0: never."""
    return settings["epochs"] // settings[every] + 1 if settings[every] else 0


def subset_sizes(split: dict[str, Any], num_train: int) -> tuple[int, int, int]:
    """Numbers of examples: a subset's train fold, its test fold, and the union of all test folds."""
    if split["rule"] == "learned-by":
        train, test = split["train_size"], split["test_size"]
    else:
        size = int(split["quantile"] * num_train + 1e-9)
        test = round(split["test_fraction"] * size)
        train = size - test
    # Easy and hard are disjoint; random and the first two controls are drawn from all examples.
    share = min((train + test) / num_train, 0.5)
    together = num_train * test / (train + test) * (1 - (1 - 2 * share) * (1 - share) ** 3)
    return train, test, round(together)


def _own(run: PlannedRun) -> dict[str, Any]:
    fields = dataclasses.fields(run.stage.entry.load())
    return {field.name: run.settings.get(field.name, field.default) for field in fields}


def settings_of(run: PlannedRun) -> dict[str, Any]:
    """All settings of a run; those that it does not set are as tracked, if it comes from a tracked run."""
    own = _own(run)
    given = {name: value for name, value in own.items() if value is not None}
    found = own | source_of(run, "track") | given
    if run.stage.entry.name == "retrain" and "model" in given and "stem" not in given:
        found["stem"] = "standard"
    return found


def source_of(run: PlannedRun, stage: str) -> dict[str, Any]:
    """The settings of the track or split run that a run depends on, in the recipe or on disk.

    Empty if it is not known yet.
    """
    if made := ancestor(run, stage):
        return _own(made)
    given = (ancestor(run, "split") or run).settings
    split, runs = given.get("split"), given.get("run", ())
    if split and split.exists():
        if stage == "split":
            return dataclasses.asdict(STAGES["split"].load()()) | files.table_settings(split)
        runs = (split.resolve().parents[1],)
    if stage == "track" and runs and (runs[0] / "run.json").exists():
        return dataclasses.asdict(STAGES["track"].load()()) | read_info(runs[0])["config"]
    return {}


def ancestor(run: PlannedRun, stage: str) -> PlannedRun | None:
    """The run of that stage that a run depends on."""
    return next((each for each in run.upstream() if each.stage.entry.name == stage), None)
