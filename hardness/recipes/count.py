"""How much a run of a plan is to do: epochs, and images that it takes through networks."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from hardness import config as c
from hardness import files
from hardness.recipes.plan import Run
from hardness.recipes.recipe import TRAINING
from hardness.stages.run_folder import read_info

_GRADIENT = 3
"""An example's own gradient takes as long as training on so many."""


@dataclass(frozen=True)
class Passes:
    """Images that a run takes through its networks, from its beginning."""

    trained: int = 0
    evaluated: int = 0


def num_epochs(run: Run) -> int:
    """Of all networks of a run, each a line of log.jsonl; 0: of none, or of a split that isn't known yet."""
    if run.stage.kind not in TRAINING:
        return 0
    return (settings_of(run)["epochs"] or 0) * _num_networks(run)


def passes(run: Run, num_train: int, num_validation: int, num_classes: int) -> Passes:
    """Of a run of track, retrain, memorize or score on a data set of that size.

    Test folds overlap as they do on average; the samples of memorize are counted as if they didn't, unless
    all examples are fewer. Of the scores for which a network is asked, self-confidence trains five on four
    fifths of the examples each; others are counted as an evaluation.
    """
    settings, kind, epochs = settings_of(run), run.stage.kind, num_epochs(run)
    if kind is c.Track:
        seen = num_train * (settings["record"] == "eval") + num_validation
        num_groups = 3 if settings["noise"] or settings["given_labels"] else 1
        sampled = num_groups * settings["coherence_sample"] * num_looks(settings, "coherence_every")
        return Passes(epochs * num_train + _GRADIENT * sampled, epochs * seen)
    if kind is c.Retrain and epochs:
        train, _, tested = subset_sizes(source_of(run, c.Split), num_train)
        # Each is measured before its first epoch as well.
        return Passes(epochs * train, (epochs + _num_networks(run)) * (train + tested + num_validation))
    if kind is c.Memorize:
        from hardness.stages.memorize import SAMPLE

        evaluated = 0
        for noise in settings["noise"]:
            num_corrupt = round(num_train * noise * (1 - 1 / num_classes))
            groups = (num_train - num_corrupt, num_corrupt, num_train)
            evaluated += min(sum(min(size, SAMPLE) for size in groups), num_train) + num_validation
        per_noise = epochs // len(settings["noise"]) + len(settings["optimizers"]) * settings["seeds"]
        return Passes(epochs * num_train, per_noise * evaluated)
    if kind is c.Score:
        from hardness.dynamics.scores import SCORES

        names = [name.replace("-", "_") for name in settings["with_"]]
        trained = ("self_confidence" in names) * 4 * settings["epochs"] * num_train
        if settings["coherence"]:
            looks = max(1, num_looks(settings, "checkpoint_every"))
            trained += _GRADIENT * 5 * settings["coherence_sample"] * looks
        return Passes(trained, num_train * sum(SCORES[name].probe is not None for name in names))
    return Passes()


def _num_networks(run: Run) -> int:
    settings = settings_of(run)
    if run.stage.kind is c.Memorize:
        return len(settings["optimizers"]) * len(settings["noise"]) * settings["seeds"]
    if run.stage.kind is c.Retrain:
        split = source_of(run, c.Split)
        return num_subsets(split) * settings["seeds"] if split else 0
    return 1


def num_subsets(split: dict[str, Any]) -> int:
    return 3 + 2 * split["controls"]


def num_looks(settings: dict[str, Any], every: str) -> int:
    """Every so many epochs, and before the first; 0: never."""
    return settings["epochs"] // settings[every] + 1 if settings[every] else 0


def subset_sizes(split: dict[str, Any], num_train: int) -> tuple[int, int, int]:
    """Examples in a subset's train fold, in its test fold, and in the test folds of all subsets together."""
    if split["rule"] == "learned-by":
        train, test = split["train_size"], split["test_size"]
    else:
        size = int(split["quantile"] * num_train + 1e-9)
        test = round(split["test_fraction"] * size)
        train = size - test
    # Easy and hard have no example in common; random and the first two controls are drawn from all.
    share = min((train + test) / num_train, 0.5)
    together = num_train * test / (train + test) * (1 - (1 - 2 * share) * (1 - share) ** 3)
    return train, test, round(together)


def _own(run: Run) -> dict[str, Any]:
    fields = dataclasses.fields(run.stage.kind)
    return {field.name: run.settings.get(field.name, field.default) for field in fields}


def settings_of(run: Run) -> dict[str, Any]:
    """All of a run's settings; what it leaves open is as tracked, where it comes from a tracked run."""
    own = _own(run)
    given = {name: value for name, value in own.items() if value is not None}
    found = own | source_of(run, c.Track) | given
    if run.stage.kind is c.Retrain and "model" in given and "stem" not in given:
        found["stem"] = "standard"
    return found


def source_of(run: Run, kind: type) -> dict[str, Any]:
    """The settings of the track or split from which a run comes; of what no recipe has made, by its files.

    None where it can't be known yet.
    """
    if made := ancestor(run, kind):
        return _own(made)
    told = (ancestor(run, c.Split) or run).settings
    split, runs = told.get("split"), told.get("run", ())
    if split and split.exists():
        if kind is c.Split:
            return dataclasses.asdict(c.Split()) | files.table_settings(split)
        runs = (split.resolve().parents[1],)
    if kind is c.Track and runs and (runs[0] / "run.json").exists():
        return dataclasses.asdict(c.Track()) | read_info(runs[0])["config"]
    return {}


def ancestor(run: Run, kind: type) -> Run | None:
    for need in run.needs:
        if found := need if need.stage.kind is kind else ancestor(need, kind):
            return found
    return None
