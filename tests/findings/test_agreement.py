import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hardness.findings import agreement as module
from hardness.findings.agreement import agreement, kinds_of_difference, over_pairs
from tests.conftest import refused

A, B = [1, 2, 3, 4, 5], [2, 1, 4, 3, 5]
INTERVALS = ["spearman_low", "spearman_high"]


def table(**columns) -> pd.DataFrame:
    return pd.DataFrame({"example_id": np.arange(len(columns["mean_loss"])), **columns})


def compare(one, other, labels=None, **options) -> pd.DataFrame:
    """Of two runs by their mean loss: a row a scope."""
    tables = [table(mean_loss=np.array(values, float)) for values in (one, other)]
    labels = np.zeros(len(one), int) if labels is None else np.array(labels)
    found = agreement(tables, labels, {"a": {"seed": 0}, "b": {"seed": 1}}, **options)
    return found.set_index("scope")


def test_five_examples_by_hand():
    found = compare(A, B, labels=[0, 0, 1, 1, 1]).loc["plain"]
    assert found["spearman"] == pytest.approx(1 - 6 * 4 / (5 * 24))
    # The easiest of five is the first by one, and the second by the other; the hardest is the same.
    assert found[["easy_overlap", "hard_overlap", "chance", "num_examples"]].tolist() == [0, 1, 0.2, 5]


def test_within_classes_by_hand():
    # The first class agrees, the second, which is the harder one, is reversed.
    found = compare(A, [1, 2, 5, 4, 3], labels=[0, 0, 1, 1, 1], quantile=1 / 3).loc["within-class"]
    # Positions -1/2 1/2 and -2/3 0 2/3: (1/2 - 8/9) / (1/2 + 8/9).
    assert found["spearman"] == pytest.approx(-0.28)
    # One example of the second class, and another one; none of the first, of which a third is less than one.
    assert found[["easy_overlap", "hard_overlap", "chance"]].tolist() == pytest.approx([0, 0, 1 / 3])
    halves = compare(A, [1, 2, 5, 4, 3], labels=[0, 0, 1, 1, 1], quantile=0.5).loc["within-class"]
    assert halves[["easy_overlap", "hard_overlap", "chance"]].tolist() == pytest.approx(
        [1 / 2, 1 / 2, 5 / 12]
    )
    assert compare(A, B, quantile=0.1)[["easy_overlap", "hard_overlap", "chance"]].isna().all(axis=None)


def test_ties_across_the_border_belong_by_their_share():
    tied = [1, 1, 1, 1, 5]
    assert compare(tied, A)["easy_overlap"].tolist() == pytest.approx([1 / 4, 1 / 4])
    assert compare(tied, tied)["easy_overlap"].tolist() == pytest.approx([4 / 16, 4 / 16])
    assert compare(tied, tied)["hard_overlap"].tolist() == [1, 1]
    assert compare([1] * 5, A)[["easy_overlap", "hard_overlap"]].to_numpy() == pytest.approx(0.2)


def test_all_is_in_the_table():
    loss = np.array([0.1, 0.4, 0.2, 0.9])
    one = table(mean_loss=loss, aum=-loss, learned_epoch=pd.array([1, 2, 1, None], "Int32"))
    other = one.assign(mean_loss=loss[::-1])
    runs = {
        "a": {"seed": 0, "model": "mlp"},
        "b": {"seed": 1, "model": "cnn", "new": 1},
        "c": {"seed": 0, "model": "mlp"},
        "d": {},
    }
    found = agreement([one, other, one, other], np.zeros(4), runs)
    assert len(found) == 2 * (4 * 3 + 6 * 3)
    plain = found[found["scope"] == "plain"]
    within = plain[plain["kind"] == "scores"].set_index(["run_a", "score_a", "score_b"])["spearman"]
    assert within["a", "aum", "mean_loss"] == within["c", "aum", "mean_loss"] == pytest.approx(1)
    # Ranks 1.5 3 1.5 4 (never learned: the hardest) and 1 3 2 4.
    assert within["a", "learned_epoch", "mean_loss"] == pytest.approx(4.5 / np.sqrt(4.5 * 5))
    runs = plain[plain["kind"] == "runs"].set_index(["run_a", "run_b", "score_a"])
    assert (runs["score_b"] == runs.index.get_level_values("score_a")).all()
    differs = runs.xs("aum", level="score_a")["differs"].to_dict()
    assert differs == {
        ("a", "b"): "seed+model",
        ("a", "c"): "nothing",
        ("b", "c"): "seed+model",
        **{(name, "d"): "unknown settings" for name in "abc"},
    }
    summary = over_pairs(found)
    assert kinds_of_difference(summary) == ["nothing", "unknown settings", "seed+model"]
    both = summary.query("differs == 'seed+model' and score_a == 'mean_loss' and scope == 'plain'").iloc[0]
    pairs = runs.loc[[("a", "b", "mean_loss"), ("b", "c", "mean_loss")]]
    assert both[["num_pairs", "num_constant"]].tolist() == [2, 0]
    assert both["spearman"] == pytest.approx(pairs["spearman"].mean())
    assert both[["low", "high"]].tolist() == [pairs["spearman_low"].min(), pairs["spearman_high"].max()]


def test_a_constant_score_has_no_correlation():
    loss = np.arange(6.0)
    flat = table(mean_loss=loss, variability=np.full(6, 0.1), el2n=loss // 3)
    found = agreement([flat], loss // 3, {"a": {}}).set_index(["scope", "score_a", "score_b"])
    correlations = found[["spearman", *INTERVALS]]
    assert correlations.loc[("plain", "el2n", "mean_loss")].notna().all()
    assert correlations.loc[("plain", "variability", "mean_loss")].isna().all()
    # EL2N knows the class, and nothing else.
    assert correlations.loc[("within-class", "el2n", "mean_loss")].isna().all()
    summary = over_pairs(found.reset_index()).set_index(["scope", "score_a", "score_b"])
    assert summary["num_constant"].to_dict() == correlations["spearman"].isna().astype(int).to_dict()


values = st.lists(st.tuples(*[st.integers(0, 6)] * 3), min_size=2, max_size=40)


@given(values)
@settings(max_examples=40)
def test_it_is_what_scipy_says(rows):
    one, other, _ = np.array(rows).T
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "RESAMPLES", 3)
        found = compare(one, other).loc["plain"]
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        assert np.isnan(found["spearman"])
    else:
        assert found["spearman"] == pytest.approx(stats.spearmanr(one, other).statistic, abs=1e-12)


@given(values)
@settings(max_examples=10)
def test_only_the_order_within_its_scope_matters(rows):
    one, other, labels = np.array(rows).T
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "RESAMPLES", 3)
        found = compare(one, other, labels)
        pd.testing.assert_frame_equal(compare(np.exp(one), other**3 - 7, labels), found)
        reversed_ = compare(one, -other, labels)
        harder_class = compare(one + 10 * labels, other - 10 * labels, labels)
    assert -reversed_["spearman"].to_numpy() == pytest.approx(found["spearman"].to_numpy(), nan_ok=True)
    pd.testing.assert_series_equal(harder_class.loc["within-class"], found.loc["within-class"])
    overlaps = found[["easy_overlap", "hard_overlap"]].to_numpy()
    assert not ((overlaps < 0) | (overlaps > 1 + 1e-12)).any()
    assert not (found["chance"] > 0.2 + 1e-12).any()


def test_a_score_that_is_larger_for_easy_examples_is_turned():
    generator = np.random.default_rng(0)
    loss, noise = generator.normal(size=(2, 50))
    one = table(mean_loss=loss, aum=-loss - noise, el2n=loss + noise)
    found = agreement([one], np.zeros(50), {"a": {}}).query("scope == 'plain'")
    found = found.set_index(["score_a", "score_b"])["spearman"]
    assert found["aum", "el2n"] == pytest.approx(1)
    assert found["aum", "mean_loss"] == found["el2n", "mean_loss"] > 0.5


def test_the_resamples_are_ranked_anew(monkeypatch):
    """A resample's correlation is that of the examples drawn, some of them twice."""
    monkeypatch.setattr(module, "RESAMPLES", 5)
    generator = np.random.default_rng(0)
    columns = np.array([stats.rankdata(row) for row in generator.integers(0, 15, (2, 30))])
    weights = module._resampled(30, generator)
    first, second, classes = np.array([0]), np.array([1]), np.zeros(30, int)
    spearman = module._spearman(module._codes(columns, classes), classes, weights, first, second)
    for weight, rho in zip(weights, spearman, strict=True):
        drawn = columns[:, np.repeat(np.arange(30), weight.astype(int))]
        assert rho == pytest.approx(stats.spearmanr(*drawn).statistic)


def test_intervals_hold_the_truth(monkeypatch):
    """Of normal pairs, whose correlations are known; within classes, that are shifted against each other."""
    monkeypatch.setattr(module, "RESAMPLES", 100)
    generator = np.random.default_rng(0)
    r = 0.7
    truth = 6 / np.pi * np.arcsin(r / 2)
    hits, widths = [], []
    for seed in range(20):
        one, other = generator.multivariate_normal([0, 0], [[1, r], [r, 1]], 300).T
        labels = np.arange(300) % 2
        plain = compare(one, other, seed=seed).loc["plain"]
        shifted = compare(one + 5 * labels, other - 5 * labels, labels, seed=seed).loc["within-class"]
        for found in (plain, shifted):
            hits.append(found["spearman_low"] <= truth <= found["spearman_high"])
            widths.append(found["spearman_high"] - found["spearman_low"])
    assert np.mean(hits) > 0.9
    assert np.mean(widths) < 0.18


def test_agreement_that_is_the_classes_alone():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 4, 400)
    found = compare(*(labels + generator.random((2, 400))), labels)
    assert found.loc["plain", "spearman"] > 0.9
    assert found.loc["within-class", "spearman_low"] < 0 < found.loc["within-class", "spearman_high"]
    assert found.loc["plain", "easy_overlap"] > 0.5
    assert found.loc["within-class", "easy_overlap"] == pytest.approx(0.2, abs=0.1)


def test_many_examples_are_sampled(monkeypatch):
    monkeypatch.setattr(module, "RESAMPLES", 20)
    monkeypatch.setattr(module, "MOST_EXAMPLES", 1_000)
    generator = np.random.default_rng(0)
    one, other = generator.multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]], 3_000).T
    labels = generator.integers(0, 30, 3_000)
    assert compare(one, other)["num_examples"].tolist() == [1_000] * 2
    found = compare(one, other, labels)
    assert found["num_examples"].tolist() == [1_500] * 2  # 50 a class
    pd.testing.assert_frame_equal(found, compare(one, other, labels))
    assert not found.equals(compare(one, other, labels, seed=1))


def test_what_not_every_run_could_read_is_left_out():
    loss = np.array([0.1, 0.4, np.nan, 0.2, 0.9])
    one = table(mean_loss=loss, el2n=loss, first_learned_epoch=pd.array([1, 2, None, 1, None], "Int32"))
    other = table(mean_loss=loss[::-1], el2n=[1, None, None, 3, 4], aum=loss)
    runs = {"a": {}, "b": {}}
    found = agreement([one, other], np.arange(5) % 2, runs)
    # EL2N is not there for an example that has been read, and AUM is there in one run only.
    assert set(found["score_a"]) == {"mean_loss"}
    assert found["num_examples"].tolist() == [4, 4]
    rest = [each.drop(index=2) for each in (one, other)]
    pd.testing.assert_frame_equal(agreement(rest, np.array([0, 1, 1, 0]), runs), found)
    with refused("too-few-readable-examples", num=0):
        agreement([one.assign(mean_loss=np.nan), other], np.zeros(5), runs)
