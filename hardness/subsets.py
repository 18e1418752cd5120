"""From hardness to subsets: easy, hard, and controls that are matched to them, with folds.

Pure functions of tables and a generator. The fold is a property of the example, the same in every subset, so
no example that one subset trains on is tested in another.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import chdtrc

from hardness.dynamics.pool import ranks
from hardness.errors import UserError

SUBSETS = ("easy", "hard", "random", "easy-control", "hard-control")
CONTROLS = {"easy": "easy-control", "hard": "hard-control"}
"""Subset -> its first control; further ones are ``easy-control-2``, ``easy-control-3`` and so on."""
FOLDS = ("train", "test")
_EASY, _REST, _HARD = 0, 1, 2
_RAISE = "Raise --quantile."


def rank(tables: list[pd.DataFrame], by: str) -> pd.DataFrame:
    """Order the readable examples from easiest to hardest.

    tables: the scores of one or more runs of one data set, each with one row per example, ordered by id.
    Returns example_id, score, rank. ``rank`` is the mean over runs of the example's rank by the score (ties
    share theirs); rows of equal rank are ordered by mean loss, then by example id. ``score`` is the score
    of a single run (null: never learned), or the mean rank of several.
    """
    is_readable = np.logical_and.reduce([table["mean_loss"].notna() for table in tables])
    tables = [table[is_readable] for table in tables]
    mean_rank = np.mean([ranks(table, by) for table in tables], axis=0)
    losses = [table["mean_loss"].to_numpy() for table in tables]
    ids = tables[0]["example_id"].to_numpy()
    score = tables[0][by].to_numpy(np.float64, na_value=np.nan) if len(tables) == 1 else mean_rank
    # lexsort is stable: ties are broken by example id.
    order = np.lexsort((np.mean(losses, axis=0), mean_rank))
    return pd.DataFrame({"example_id": ids, "score": score, "rank": mean_rank}).iloc[order]


@dataclass(frozen=True)
class Cut:
    """Which of the ranked examples are easy and hard."""

    group: np.ndarray
    """(N,) of 0 easy, 1 rest, 2 hard, in the order of the ranking."""
    tied_share: dict[str, float]
    """Share of each subset that ties with an example just outside it: mean loss decided, not the score."""
    left_out: tuple[int, ...] = ()
    """Classes with too few examples to have one in easy or hard."""


def cut_quantile(ranked: pd.DataFrame, classes: np.ndarray, quantile: float, by_class: bool) -> Cut:
    """The first and last floor(quantile * N) of the ranking; with ``by_class``, of each class."""
    group = np.full(len(ranked), _REST)
    ranks = ranked["rank"].to_numpy()
    tied, left_out = {"easy": 0, "hard": 0}, []
    for label in np.unique(classes) if by_class else [None]:
        members = np.arange(len(ranked)) if label is None else np.flatnonzero(classes == label)
        size = int(quantile * len(members) + 1e-9)
        if size == 0:
            left_out.append(label)
            continue
        for name, value, inwards in (("easy", _EASY, members), ("hard", _HARD, members[::-1])):
            group[inwards[:size]] = value
            border = ranks[inwards[size - 1]]
            if size < len(members) and ranks[inwards[size]] == border:
                tied[name] += int((ranks[inwards[:size]] == border).sum())
    sizes = {"easy": (group == _EASY).sum(), "hard": (group == _HARD).sum()}
    if sizes["easy"] == 0:
        sentence = "A quantile of {quantile} of {count} examples is less than one example."
        raise UserError("quantile-too-small", sentence, _RAISE, quantile=quantile, count=len(ranked))
    return Cut(group, {name: tied[name] / size for name, size in sizes.items()}, tuple(left_out))


def cut_learned_by(is_correct: np.ndarray, train_size: int, test_size: int, epoch: int) -> Cut:
    """The paper's split: correct at an epoch against the rest (arXiv:2003.07422, section 4)."""
    correct, wrong = int(is_correct.sum()), int((~is_correct).sum())
    if min(correct, wrong) < train_size + test_size:
        sentence = (
            "Easy and hard need {size} examples each; at epoch {epoch}, {correct} are correct, {wrong} not."
        )
        hint = "Lower --train-size and --test-size, or choose another --epoch."
        values = {"size": train_size + test_size, "epoch": epoch, "correct": correct, "wrong": wrong}
        raise UserError("too-few-examples", sentence, hint, **values)
    return Cut(np.where(is_correct, _EASY, _HARD), {"easy": 0.0, "hard": 0.0})


def draw_folds(
    group: np.ndarray,
    classes: np.ndarray,
    test_fraction: float,
    generator: np.random.Generator,
    sizes: tuple[int, int] = (1, 1),
) -> np.ndarray:
    """(N,) bool: the example is in the test fold. Stratified by class within easy, hard and the rest.

    Each group has round(test_fraction * size) test examples, in proportion to its classes to within one.
    ``sizes``: the minimum number of (train, test) examples in easy and in hard.
    """
    is_test = np.zeros(len(group), bool)
    for value in np.unique(group):
        members = np.flatnonzero(group == value)
        members = members[np.lexsort((generator.random(len(members)), classes[members]))]
        num_test = round(test_fraction * len(members))
        if value != _REST:
            min_train, min_test = sizes
            num_test = min(max(num_test, min_test), len(members) - min_train)
            if num_test < min_test:
                sentence = (
                    "A subset of {count} examples cannot have {train} for training and {test} for testing."
                )
                values = {"count": len(members), "train": min_train, "test": min_test}
                raise UserError("subset-too-small", sentence, _RAISE, **values)
        # Systematic sampling: every (1/fraction)-th example, in the order of classes, from a random start.
        steps = np.floor(np.arange(len(members) + 1) * (num_test / len(members)) + generator.random())
        is_test[members[np.diff(steps) > 0]] = True
    return is_test


def form(
    group: np.ndarray,
    classes: np.ndarray,
    is_test: np.ndarray,
    generator: np.random.Generator,
    sizes: tuple[int, int] | None = None,
    num_controls: int = 1,
) -> dict[str, np.ndarray]:
    """Subset name -> positions. Controls match their subset's class counts, fold by fold.

    ``sizes``: (train, test) examples to draw from easy and from hard; None takes all of them.
    ``num_controls``: for each of the two, drawn independently; more of them do not change the first ones.
    """
    subsets = {}
    for name, value in (("easy", _EASY), ("hard", _HARD)):
        subsets[name] = members = np.flatnonzero(group == value)
        if sizes is not None:
            folds = [members[is_test[members] == fold] for fold in (False, True)]
            subsets[name] = _draw_each(folds, sizes, generator)
    everything = np.zeros_like(classes)
    subsets["random"] = _matched(subsets["easy"], everything, is_test, generator)
    for number in range(1, num_controls + 1):
        for name, control in CONTROLS.items():
            control = control if number == 1 else f"{control}-{number}"
            subsets[control] = _matched(subsets[name], classes, is_test, generator)
    return {name: np.sort(members) for name, members in subsets.items()}


def _matched(
    target: np.ndarray, classes: np.ndarray, is_test: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Random positions with as many examples of each class in each fold as ``target`` has."""
    stratum = classes * 2 + is_test
    # numpy sorts integers of one or two bytes in linear time.
    stratum = stratum.astype(np.min_scalar_type(stratum.max()))
    by_stratum = np.argsort(stratum, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(stratum))])
    values, counts = np.unique(stratum[target], return_counts=True)
    strata = [by_stratum[starts[value] : starts[value + 1]] for value in values]
    return _draw_each(strata, counts, generator)


def _draw_each(
    pools: Sequence[np.ndarray], counts: Sequence[int], generator: np.random.Generator
) -> np.ndarray:
    """From each pool as many, without replacement, as its count."""
    pairs = zip(pools, counts, strict=True)
    return np.concatenate([generator.choice(pool, count, replace=False) for pool, count in pairs])


def one_class_subsets(subsets: pd.DataFrame) -> dict[str, int]:
    """Subset -> its class, of those that train on one class alone: accuracy means nothing on them.

    subsets: subset, fold, label.
    """
    labels = subsets[subsets["fold"] == "train"].groupby("subset", sort=False)["label"]
    return labels.first()[labels.nunique() == 1].to_dict()


def class_difference(easy: np.ndarray, hard: np.ndarray) -> float:
    """p-value of the chi-squared test that easy and hard have the same class histogram (counts a class)."""
    observed = np.array([easy, hard], float)
    observed = observed[:, observed.sum(0) > 0]
    if observed.shape[1] == 1:
        return 1.0
    expected = observed.sum(1, keepdims=True) * observed.sum(0) / observed.sum()
    # scipy.stats has it in one call, and takes half a second to import.
    return float(chdtrc(observed.shape[1] - 1, ((observed - expected) ** 2 / expected).sum()))


def matched_samples(
    members: dict[str, np.ndarray], classes: np.ndarray, size: int, generator: np.random.Generator
) -> dict[str, np.ndarray]:
    """Samples with the same class histogram, one per group: {group: ids} -> {group: (m,) ids, sorted}.

    m is ``size``, or fewer if the groups share fewer examples of the same classes: coherence depends on the
    number of examples and on their classes. classes: (N,) of all examples. m is 0 if they share no class.
    """
    labels = np.arange(classes.max() + 1)
    histograms = [np.bincount(classes[ids], minlength=len(labels)) for ids in members.values()]
    shared = np.repeat(labels, np.min(histograms, axis=0))
    drawn = generator.choice(shared, min(size, len(shared)), replace=False)
    wanted = np.bincount(drawn, minlength=len(labels))
    samples = {}
    for name, ids in members.items():
        by_class = [ids[classes[ids] == label] for label in labels]
        samples[name] = np.sort(_draw_each(by_class, wanted, generator))
    return samples
