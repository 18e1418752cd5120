"""Do scores, and runs, agree on which examples are hard? Rank correlations and overlaps.

Everything is computed over all examples and within classes: two scores that only reflect which classes are
hard agree over all examples, but not within classes. Pure functions of tables.

Within classes, an example's position is its rank within its given class divided by the size of the class, and
Spearman's correlation is that of the positions: the mean of the classes' correlations, weighted by size
(approximately, if there are ties).
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from hardness import seeding
from hardness.dynamics.pool import is_whole, ranks
from hardness.dynamics.scores import SCORES
from hardness.errors import UserError
from hardness.findings.words import Words

RESAMPLES = 200
MOST_EXAMPLES = 5_000
LEAST_PER_CLASS = 50
"""With more than 100 classes, the mean number of examples per class that are compared: ranks of few examples,
and resamples with repeated examples, bias the correlation."""


# Many small products: on busy cores, threads that wait for each other take five times as long.
@threadpool_limits.wrap(limits=1, user_api="blas")
def agreement(
    tables: Sequence[pd.DataFrame],
    given_labels: np.ndarray,
    runs: Mapping[str, Mapping[str, Any]],
    quantile: float = 0.2,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare every two scores of a run, and every two runs by each score: one row per pair and scope.

    tables: the scores of one or more runs of one data set, one row per example, ordered by id. A score is
    compared if every table has it for every example that all runs could read. given_labels: (N,).
    runs: the name of each table's run -> its settings (seed, optimizer, model, ...).

    Returns kind ("scores": two of one run, "runs": one of two runs), score_a, score_b, run_a, run_b, differs
    (the settings in which two runs differ, joined by "+"; "nothing"; "unknown settings"; null within a run),
    scope ("plain": over all examples, "within-class"), spearman, spearman_low and spearman_high (95 %
    percentile bootstrap over examples, which are ranked again in every resample), easy_overlap and
    hard_overlap (fraction of the easiest and of the hardest ``quantile`` that both have in common, of all
    examples or of each class), chance (the overlap of unrelated rankings), num_examples.

    All values are of the same examples: a random sample if there are more than 5,000 and more than 50 per
    class. Correlations are null if a score ranks all examples the same. If examples tie across the border of
    a quantile, each belongs to it by the fraction of them that fits: the result does not depend on how ties
    are broken, and a score with many ties overlaps little, even with itself.
    Raises ``UserError`` if all runs could read fewer than two examples.
    """
    readable = np.flatnonzero(np.logical_and.reduce([table["mean_loss"].notna() for table in tables]))
    if len(readable) < 2:
        sentence = "Comparing runs needs at least two examples that all of them could read (there are {num})."
        raise UserError("too-few-readable-examples", sentence, "Choose other runs.", num=len(readable))
    generator = seeding.generator(seed, "agreement")
    most = max(MOST_EXAMPLES, LEAST_PER_CLASS * len(np.unique(given_labels[readable])))
    sample = np.sort(generator.choice(readable, min(most, len(readable)), replace=False))
    tables = [table.iloc[sample] for table in tables]
    names = [name for name in SCORES if all(is_whole(table, name) for table in tables)]
    columns = np.array([ranks(table, name) for table in tables for name in names])
    pairs, first, second = _pairs(names, runs)
    weights = _resampled(len(sample), generator)
    of_class = np.unique(given_labels[sample], return_inverse=True)[1]
    parts = []
    for scope, classes in (("plain", np.zeros_like(of_class)), ("within-class", of_class)):
        codes = _codes(columns, classes)
        part = pairs.assign(scope=scope)
        found = _spearman(codes, classes, weights, first, second)
        part["spearman"] = found[0]
        # Of the resamples that have an order: pandas ignores nan.
        part[["spearman_low", "spearman_high"]] = pd.DataFrame(found[1:]).quantile([0.025, 0.975]).T
        easy, hard, chance = _overlaps(codes, classes, quantile, first, second)
        parts.append(part.assign(easy_overlap=easy, hard_overlap=hard, chance=chance))
    return pd.concat(parts, ignore_index=True).assign(num_examples=len(sample))


def over_pairs(found: pd.DataFrame) -> pd.DataFrame:
    """The table of ``agreement`` -> one row per kind, two scores, difference and scope, over pairs of runs.

    Returns these, num_pairs, num_constant (pairs without a correlation), spearman (mean), least, most, low
    (the smallest), high (the largest), easy_overlap, hard_overlap (means), chance, num_examples.
    """
    keys = ["kind", "score_a", "score_b", "differs", "scope"]
    return (
        found.groupby(keys, sort=False, dropna=False)
        .agg(
            num_pairs=("spearman", "size"),
            num_constant=("spearman", lambda values: values.isna().sum()),
            spearman=("spearman", "mean"),
            least=("spearman", "min"),
            most=("spearman", "max"),
            low=("spearman_low", "min"),
            high=("spearman_high", "max"),
            easy_overlap=("easy_overlap", "mean"),
            hard_overlap=("hard_overlap", "mean"),
            chance=("chance", "first"),
            num_examples=("num_examples", "first"),
        )
        .reset_index()
    )


def kinds_of_difference(summary: pd.DataFrame) -> list[str]:
    """The differences between pairs of runs, fewest settings first."""
    return sorted(summary["differs"].dropna().unique(), key=lambda differs: differs.count("+"))


def agreement_words(summary: pd.DataFrame) -> Words:
    """The table of ``over_pairs`` in sentences."""
    sentences, numbers, headline, of_scores = [], {}, "", None
    matrix = summary[summary["kind"] == "scores"]
    plain = matrix[matrix["scope"] == "plain"]
    names = dict.fromkeys([*plain["score_a"], *plain["score_b"]])
    of_name = {name: plain[(plain["score_a"] == name) | (plain["score_b"] == name)] for name in names}
    if constant := [name for name, pairs in of_name.items() if pairs["num_constant"].all()]:
        sentences.append(f"No correlation, because constant in at least one run: {', '.join(constant)}.")
    for differs in [None, *kinds_of_difference(summary)]:
        rows = matrix if differs is None else summary[summary["differs"] == differs]
        both = rows.pivot(index=["score_a", "score_b"], columns="scope", values="spearman")
        both = both.dropna(subset="plain")
        if both.empty:
            continue
        of = f"two runs that differ in {differs}" if differs else "two scores of one run"
        ends = {"least": both["plain"].idxmin(), "most": both["plain"].idxmax()}
        found = {what: both.loc[index] for what, index in ends.items()} | {"median": both.median()}
        texts = {}
        for what, values in found.items():
            numbers |= {f"{of}: {what}, {scope}": float(value) for scope, value in values.dropna().items()}
            within = "constant" if np.isnan(values["within-class"]) else f"{values['within-class']:.2f}"
            texts[what] = f"{values['plain']:.2f}", f"within classes {within}"
        least, most = (
            f"{' and '.join(dict.fromkeys(index))} ({', '.join(texts[what])})" for what, index in ends.items()
        )
        plain, within_classes = texts["median"]
        correlation = f"median Spearman correlation {plain} ({within_classes})"
        answer = f"{of.capitalize()}: {correlation}, over all scores."
        if differs is None:
            sentences.append(f"Two scores of one run: {correlation}. Lowest: {least}; highest: {most}.")
            headline = of_scores = answer
        else:
            num_pairs = rows["num_pairs"].iloc[0]
            numbers[f"{of}: pairs"] = int(num_pairs)
            pairs = "1 pair" if num_pairs == 1 else f"{num_pairs} pairs"
            stable = f"Most stable: {most}; least stable: {least}."
            sentences.append(f"The same score in {of} ({pairs}): {correlation}. {stable}")
            # Of the runs that differ in fewest settings; a run and its copy agree anyway.
            if headline == of_scores and differs != "nothing":
                headline = answer
    return Words(headline, sentences, numbers)


def _pairs(
    names: list[str], runs: Mapping[str, Mapping[str, Any]]
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """The pairs, and for each the positions of its two scores among all scores of all runs."""
    rows = []
    settings = list(runs.values())
    for run, label in enumerate(runs):
        for a, b in itertools.combinations(range(len(names)), 2):
            places = run * len(names) + a, run * len(names) + b
            rows.append(("scores", names[a], names[b], label, label, None, *places))
    for (i, one), (j, other) in itertools.combinations(enumerate(runs), 2):
        # A setting that only one of them has came with a later version.
        shared = [name for name in settings[i] if name in settings[j]]
        differs = "+".join(name for name in shared if settings[i][name] != settings[j][name])
        differs = differs or ("nothing" if shared else "unknown settings")
        for a, name in enumerate(names):
            places = i * len(names) + a, j * len(names) + a
            rows.append(("runs", name, name, one, other, differs, *places))
    keys = ["kind", "score_a", "score_b", "run_a", "run_b", "differs"]
    table = pd.DataFrame(rows, columns=[*keys, "first", "second"])
    return table[keys], table["first"].to_numpy(), table["second"].to_numpy()


def _resampled(num_examples: int, generator: np.random.Generator) -> np.ndarray:
    """(1 + RESAMPLES, N): how often each example is in; the first row is the sample itself."""
    weights = np.ones((1 + RESAMPLES, num_examples), np.float32)
    for row in weights[1:]:
        drawn = generator.integers(num_examples, size=num_examples)
        row[:] = np.bincount(drawn, minlength=num_examples)
    return weights


def _codes(columns: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """(P, N) ranks -> (P, N) int64: 0, 1, ... along classes, and in each along ranks; ties share theirs."""
    keys = 2 * columns + 2 * (columns.shape[1] + 1) * classes
    return np.array([np.unique(row, return_inverse=True)[1] for row in keys])


def _sizes(classes: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each example: how many are in the classes before its own, and in its own. (N,) each."""
    size = np.bincount(classes, weights)
    return (size.cumsum() - size)[classes], size[classes]


def _place(code: np.ndarray, before: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each example: how many of its class are easier, and tied with it (itself among them).

    code, weights: (N,); before: of ``_sizes``. Counts are whole numbers in float64, so that what is equal is
    exactly so.
    """
    tied = np.bincount(code, weights)
    return (tied.cumsum() - tied)[code] - before, tied[code]


def _spearman(
    codes: np.ndarray, classes: np.ndarray, weights: np.ndarray, first: np.ndarray, second: np.ndarray
) -> np.ndarray:
    """(B, number of pairs): of every row of weights, nan where one of the two has no order."""
    found = np.full((len(weights), len(first)), np.nan)
    positions = np.empty(codes.shape)
    for row, weight in zip(found, weights, strict=True):
        before, size = _sizes(classes, weight)
        scale = np.sqrt(weight) / np.maximum(size, 1)
        for position, code in zip(positions, codes, strict=True):
            easier, tied = _place(code, before, weight)
            # From -1 to 1, and 0 on average in every class.
            position[:] = (2 * easier + tied - size) * scale
        products = positions @ positions.T
        squares = products.diagonal()
        norms = np.sqrt(squares[first] * squares[second])
        np.divide(products[first, second], norms, out=row, where=norms > 0)
    return found


def _overlaps(
    codes: np.ndarray, classes: np.ndarray, quantile: float, first: np.ndarray, second: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """(number of pairs,) of the easiest, the same of the hardest, and chance: sizes as ``subsets`` cuts them.

    nan where no class has enough for one.
    """
    size = np.bincount(classes)
    taken = np.floor(quantile * size + 1e-9)
    # From 0 to 1: how far an example belongs to the easiest, and to the hardest.
    members = np.empty((2, *codes.shape))
    ones = np.ones(len(classes))
    before, of_class = _sizes(classes, ones)
    for easy, hard, code in zip(*members, codes, strict=True):
        easier, tied = _place(code, before, ones)
        easy[:] = (taken[classes] - easier) / tied
        hard[:] = (taken[classes] - (of_class - easier - tied)) / tied
    members = members.clip(0, 1)
    easy, hard = (members @ members.transpose(0, 2, 1))[:, first, second]
    total = taken.sum() or np.nan
    return easy / total, hard / total, (taken**2 / size).sum() / total
