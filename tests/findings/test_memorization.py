import pandas as pd
import pytest

from hardness.findings.memorization import Memorization, compared, equal_pristine
from tests.curves import noisy, three_optimizers


def test_equal_pristine_by_hand():
    across = equal_pristine(
        noisy(
            {
                ("sgd", 0): ([0.1, 0.5, 0.9], [0.1, 0.1, 0.9]),
                ("m3", 0): ([0.1, 0.3, 0.7], [0.1, 0.1, 0.3]),
            }
        )
    )
    assert across.table["pristine"].agg(["min", "max"]).tolist() == pytest.approx([0.1, 0.7])
    # SGD crosses 0.7 half way from 0.5 to 0.9: corrupt 0.5. M3 ends there: 0.3.
    assert across.at_maximum.by_optimizer["sgd"].mean == pytest.approx(0.5)
    assert across.at_maximum.by_optimizer["m3"].mean == pytest.approx(0.3)
    assert across.clean_at_maximum.by_optimizer["m3"].mean == pytest.approx(0.7)
    assert across.mean_over_grid.differences["sgd", "m3"].mean > 0


def test_what_is_compared_ends_with_the_closest_control():
    assert compared(["rm3", "ra3-scaled", "sgd", "ra3"]) == [
        ("sgd", "rm3"),
        ("ra3", "rm3"),
        ("ra3-scaled", "rm3"),
    ]
    assert compared(["adamw", "ra3-scaled", "rm3+adamw"]) == [("adamw", "rm3+adamw")]


def test_memorization_by_hand():
    found = Memorization.of(three_optimizers())
    (reading,) = found.readings
    assert reading.at_maximum.differences["sgd", "rm3"].mean == pytest.approx(0.61)
    assert reading.table["pristine"].max() == pytest.approx(0.9)
    names = ["at the maximum", "mean over the grid", "clean labels at the maximum"]
    assert list(found.estimates()) == [
        *(f"noise 0.5: {optimizer} {name}" for optimizer in ("sgd", "rm3", "ra3") for name in names),
        *(f"noise 0.5: {control} - rm3 {name}" for control in ("sgd", "ra3") for name in names[:2]),
    ]


def test_a_difference_is_over_the_seeds_that_both_have():
    curves = three_optimizers()
    # Seeds 1 and 2 of rm3 alone, the larger first: sgd's are 0.91 and 0.92 where rm3 has 0.3.
    rm3 = curves[(curves["optimizer"] == "rm3") & (curves["seed"] > 0)].sort_values("seed", ascending=False)
    found = equal_pristine(pd.concat([rm3, curves[curves["optimizer"] != "rm3"]])).at_maximum
    difference = found.differences["sgd", "rm3"]
    assert (difference.mean, difference.num_seeds) == (pytest.approx(0.615), 2)
    assert [found.by_optimizer[name].num_seeds for name in ("sgd", "rm3")] == [3, 2]


def test_at_noise_one_it_is_training_accuracy():
    curves = noisy({("sgd", 0): ([0.1, 0.2], [0.1, 0.6])}, noise=1.0)
    found = Memorization.of(curves)
    assert found.estimates()["noise 1: sgd train"].mean == pytest.approx(0.4)
    (sentence,) = found.words().sentences
    assert sentence.startswith("Noise 1: ")
    assert "sgd 0.400 (one seed: no interval)" in sentence


def test_nothing_learned_gives_no_reading_and_says_so():
    curves = noisy({("sgd", 0): ([0.1, 0.1], [0.1, 0.1])})
    assert equal_pristine(curves) is None
    assert "no comparison at equal pristine accuracy" in Memorization.of(curves).words().sentences[1]


def test_a_median_is_judged_by_its_own_control():
    words = Memorization.of(three_optimizers()).words()
    sgd, _, ra3, _ = words.sentences[1:]
    assert sgd.endswith("it memorizes less; sgd - rm3 = 0.610 [0.585, 0.635] (3 seeds).")
    assert "opposite to the hypothesis; ra3 - rm3 = -" in ra3
    assert words.headline.startswith("No, the median memorizes more: ")
    assert "ra3 - rm3 = -" in words.headline
    assert "sgd - rm3" not in words.headline


def test_one_seed_is_no_verdict_on_memorization():
    members = {(name, 0): ([0.1, 0.5, 0.9], [0.1, 0.1, 0.3]) for name in ("sgd", "m3")}
    words = Memorization.of(noisy(members)).words()
    assert words.headline.startswith("One seed gives no interval: ")
    assert "one seed gives no interval" in words.sentences[1]
