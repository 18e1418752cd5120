import itertools

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from hardness import seeding
from hardness.errors import UserError
from hardness.subsets import (
    CONTROLS,
    SUBSETS,
    class_difference,
    cut_learned_by,
    cut_quantile,
    draw_folds,
    form,
    matched_samples,
    one_class_subsets,
    rank,
)
from tests.conftest import refused


def table(first_learned, mean_loss) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "example_id": range(len(mean_loss)),
            "first_learned_epoch": pd.array(first_learned, dtype="Int32"),
            "aum": -np.array(mean_loss, float),
            "mean_loss": mean_loss,
        }
    )


def test_ranking_by_hand():
    # Example 4 is unreadable; 5 ties with 1 and 3 in the score, and with 1 in the loss.
    some = table([2, 1, None, 1, None, 1], [0.1, 0.5, 0.2, 0.4, np.nan, 0.5])
    ranked = rank([some], "first_learned_epoch")
    assert ranked["example_id"].tolist() == [3, 1, 5, 0, 2]
    assert ranked["rank"].tolist() == [2, 2, 2, 4, 5]
    assert ranked["score"].fillna(-1).tolist() == [1, 1, 1, 2, -1]


def test_a_score_with_a_negative_sign_ranks_large_values_first():
    assert rank([table([1, 1, 1], [0.3, 0.1, 0.2])], "aum")["example_id"].tolist() == [1, 2, 0]


def test_several_runs_are_pooled_by_mean_rank():
    # Ranks 1 2 3 and 3 1 2: means 2, 1.5, 2.5.
    pooled = rank([table([1, 2, 3], [0, 0, 0]), table([3, 1, 2], [0, 0, 0])], "first_learned_epoch")
    assert pooled["example_id"].tolist() == [1, 0, 2]
    assert pooled["score"].tolist() == [1.5, 2, 2.5]


def test_the_share_of_ties_at_the_border():
    # Epochs 1 1 1 | 1 2 2 3 | 3 3 4: three easy examples tie with the fourth, two of three hard ones with it.
    ranked = rank([table([1, 1, 1, 1, 2, 2, 3, 3, 3, 4], np.arange(10.0))], "first_learned_epoch")
    cut = cut_quantile(ranked, np.zeros(10, int), 0.3, by_class=False)
    assert cut.group.tolist() == [0, 0, 0, 1, 1, 1, 1, 2, 2, 2]
    assert cut.tied_share == {"easy": 1.0, "hard": pytest.approx(2 / 3)}
    cut = cut_quantile(ranked, np.zeros(10, int), 0.4, by_class=False)
    assert cut.tied_share == {"easy": 0.0, "hard": 0.0}


def test_within_each_class():
    ranked = rank([table(range(1, 11), np.zeros(10))], "first_learned_epoch")
    classes = np.array([0] * 6 + [1] * 4)
    cut = cut_quantile(ranked, classes, 0.25, by_class=True)
    assert cut.group.tolist() == [0, 1, 1, 1, 1, 2, 0, 1, 1, 2]


def test_classes_too_small_for_a_quantile_of_them_are_left_out():
    ranked = rank([table(range(1, 13), np.zeros(12))], "first_learned_epoch")
    classes = np.array([0] * 5 + [1] * 4 + [7] * 3)
    assert cut_quantile(ranked, classes, 0.2, by_class=True).left_out == (1, 7)
    assert cut_quantile(ranked, classes, 0.25, by_class=True).left_out == (7,)
    assert cut_quantile(ranked, classes, 0.2, by_class=False).left_out == ()


def test_subsets_that_train_on_one_class():
    rows = [("easy", "train", 3), ("easy", "train", 3), ("easy", "test", 1), ("hard", "train", 1)]
    rows += [("hard", "train", 3), ("hard", "test", 1), ("random", "train", 0), ("random", "test", 0)]
    subsets = pd.DataFrame(rows, columns=["subset", "fold", "label"])
    assert one_class_subsets(subsets) == {"easy": 3, "random": 0}


def test_too_small_a_quantile_is_refused():
    ranked = rank([table(range(1, 11), np.zeros(10))], "first_learned_epoch")
    with refused("quantile-too-small", quantile=0.05, count=10):
        cut_quantile(ranked, np.zeros(10, int), 0.05, by_class=False)
    with refused("subset-too-small", count=1, train=1, test=1):
        draw_folds(np.array([0, 1, 2]), np.zeros(3, int), 0.5, seeding.generator(0))


def test_learned_by_needs_enough_correct_and_incorrect_examples():
    correct = np.array([True] * 6 + [False] * 4)
    assert cut_learned_by(correct, 3, 1, epoch=2).group.tolist() == [0] * 6 + [2] * 4
    with refused("too-few-examples", size=5, epoch=2, correct=6, wrong=4):
        cut_learned_by(correct, 4, 1, epoch=2)


@st.composite
def situations(draw):
    num_examples = draw(st.integers(60, 300))
    seed = draw(st.integers(0, 10_000))
    generator = np.random.default_rng(seed)
    classes = generator.integers(0, draw(st.integers(1, 12)), num_examples)
    losses = generator.random(num_examples)
    epochs = pd.array(generator.integers(1, draw(st.integers(1, 9)) + 1, num_examples), dtype="Int32")
    epochs[generator.random(num_examples) < 0.1] = pd.NA
    return table(epochs, losses), classes, seed


@settings(max_examples=80)
@given(
    situations(),
    st.floats(0.1, 0.5),
    st.booleans(),
    st.floats(0.1, 0.9),
    st.sampled_from([None, (2, 1), (3, 2)]),
)
def test_no_training_example_of_a_subset_is_tested_in_any_subset(
    situation, quantile, by_class, test_fraction, sizes
):
    some, classes, seed = situation
    ranked = rank([some], "first_learned_epoch")
    classes = classes[ranked["example_id"].to_numpy()]
    num_controls = 1 + seed % 3
    try:
        cut = cut_quantile(ranked, classes, quantile, by_class)
        is_test = draw_folds(cut.group, classes, test_fraction, seeding.generator(seed), sizes or (1, 1))
    except UserError:
        return  # the classes are too small for this quantile
    subsets = form(cut.group, classes, is_test, seeding.generator(seed, "controls"), sizes, num_controls)
    assert list(subsets)[:5] == list(SUBSETS)
    assert len(subsets) == 3 + 2 * num_controls
    train = set().union(*(members[~is_test[members]] for members in subsets.values()))
    test = set().union(*(members[is_test[members]] for members in subsets.values()))
    assert not train & test
    assert not set(subsets["easy"]) & set(subsets["hard"])
    for name, members in subsets.items():
        assert len(set(members)) == len(members)
        if sizes is None:
            assert len(members) == len(subsets["easy"]) == int((cut.group == 0).sum())
        else:
            assert (int((~is_test[members]).sum()), int(is_test[members].sum())) == sizes, name
    for name in CONTROLS:
        for control in (each for each in subsets if each.startswith(f"{name}-control")):
            for fold in (False, True):
                counts = [
                    np.bincount(classes[members[is_test[members] == fold]], minlength=12)
                    for members in (subsets[name], subsets[control])
                ]
                assert np.array_equal(*counts)
    for value in (0, 1, 2):
        members = cut.group == value
        # The test fold has its share of easy, hard and the rest, up to rounding.
        if sizes is None and members.sum() > 20:
            assert abs(is_test[members].sum() - test_fraction * members.sum()) <= 1


def test_folds_and_controls_depend_on_the_seed():
    group, classes = np.repeat([0, 1, 2], 40), np.arange(120) % 4

    def draw(seed):
        is_test = draw_folds(group, classes, 0.25, seeding.generator(seed, "folds"))
        return is_test, form(group, classes, is_test, seeding.generator(seed, "controls"))["random"]

    assert all(np.array_equal(one, other) for one, other in zip(draw(0), draw(0), strict=True))
    assert not any(np.array_equal(one, other) for one, other in zip(draw(0), draw(1), strict=True))


def test_more_controls_are_independent_and_do_not_change_the_first_ones():
    group, classes = np.repeat([0, 1, 2], 40), np.arange(120) % 4
    is_test = draw_folds(group, classes, 0.25, seeding.generator(0, "folds"))
    one, five = (form(group, classes, is_test, seeding.generator(0), num_controls=r) for r in (1, 5))
    assert list(five)[5:8] == ["easy-control-2", "hard-control-2", "easy-control-3"]
    assert all(np.array_equal(members, five[name]) for name, members in one.items())
    drawn = {name: set(members.tolist()) for name, members in five.items() if "easy-control" in name}
    assert len(drawn) == 5
    # Each has a third of the examples, so two independent ones share a third of theirs: 13.3 of 40.
    shared = [len(a & b) for a, b in itertools.combinations(drawn.values(), 2)]
    assert 9 < np.mean(shared) < 18


def test_class_histograms_are_compared():
    assert class_difference(np.array([50, 0, 50]), np.array([50, 0, 50])) == 1
    assert class_difference(np.array([90, 10]), np.array([10, 90])) < 1e-9
    assert class_difference(np.array([5, 0]), np.array([5, 0])) == 1


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=2, max_size=8))
def test_the_comparison_of_histograms_equals_scipy(counts):
    easy, hard = np.array([*counts, (1, 2), (3, 1)]).T
    some = easy + hard > 0
    expected = scipy.stats.chi2_contingency([easy[some], hard[some]], correction=False).pvalue
    assert class_difference(easy, hard) == pytest.approx(expected)


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 40))
def test_matched_samples_have_as_many_of_each_class(seed, size):
    generator = np.random.default_rng(seed)
    classes = generator.integers(0, 4, 60)
    members = {name: generator.choice(60, 25, replace=False) for name in ("one", "other", "third")}
    found = matched_samples(members, classes, size, generator)
    counts = {name: np.bincount(classes[ids], minlength=4) for name, ids in found.items()}
    common = np.min([np.bincount(classes[ids], minlength=4) for ids in members.values()], axis=0)
    for name, ids in found.items():
        assert np.isin(ids, members[name]).all()
        assert len(np.unique(ids)) == len(ids) == min(size, common.sum())
        assert np.array_equal(counts[name], counts["one"])
        assert (counts[name] <= common).all()


def test_groups_without_a_common_class_have_no_matched_sample():
    classes = np.array([0, 0, 1, 1])
    found = matched_samples(
        {"a": np.array([0, 1]), "b": np.array([2, 3])}, classes, 2, np.random.default_rng(0)
    )
    assert {name: ids.tolist() for name, ids in found.items()} == {"a": [], "b": []}
