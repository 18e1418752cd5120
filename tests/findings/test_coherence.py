import numpy as np
import pandas as pd
import pytest

from hardness.findings.coherence import Coherence, equal_loss


def curves(seeds=2) -> pd.DataFrame:
    """Coherence is 0.4 times the loss for easy, and 0.1 times the loss minus 0.01 times the seed for hard."""
    rows = []
    for seed in range(seeds):
        for epoch, (easy, hard) in enumerate([(2.0, 2.2), (1.0, 2.0), (0.2, 1.0), (0.1, 0.5)]):
            for name, loss, slope in (("easy", easy, 0.4), ("hard", hard, 0.1)):
                rows.append((name, str(seed), epoch, loss, slope * loss - 0.01 * seed * (name == "hard")))
    return pd.DataFrame(rows, columns=["measured_on", "seed", "epoch", "mean_loss", "coherence"])


def test_groups_are_compared_where_their_losses_are_equal():
    equal = equal_loss(curves())
    # From the initial loss of easy, the lower one, to the final loss of hard, the higher one.
    assert (equal.index[0], equal.index[-1]) == (2.0, 0.5)
    np.testing.assert_allclose(equal["easy", "0"], 0.4 * equal.index)
    np.testing.assert_allclose(equal["hard", "1"], 0.1 * equal.index - 0.01)


def test_estimates_worked_by_hand():
    coherence = Coherence.of(curves())
    found = coherence.estimates()
    assert list(found) == [
        "easy - hard: over training",
        "easy - hard: at equal loss",
        "easy - hard: at loss 0.50",
    ]
    # Epochs 1 to 3: (.4 - .2) + (.08 - .1) + (.04 - .05) over three; the second seed 0.01 more.
    assert found["easy - hard: over training"].mean == pytest.approx(0.17 / 3 + 0.005)
    # 0.3 times the mean level.
    assert found["easy - hard: at equal loss"].mean == pytest.approx(0.3 * 1.25 + 0.005)
    assert found["easy - hard: at loss 0.50"].mean == pytest.approx(0.15 + 0.005)
    assert found["easy - hard: at equal loss"].num_seeds == 2
    assert "agree more than those of hard ones" in " ".join(coherence.words().sentences)


def test_the_sentence_follows_the_sign():
    swapped = curves().replace({"measured_on": {"easy": "hard", "hard": "easy"}})
    assert "agree less than those of hard ones" in Coherence.of(swapped).words().headline
    one_seed = Coherence.of(curves(seeds=1)).words().sentences
    assert "one seed: no interval" in one_seed[0]
    assert "one seed gives no interval" in one_seed[1]


def test_without_a_common_loss_or_a_second_group_there_is_no_estimate():
    apart = pd.DataFrame(
        [
            ("easy", "0", 0, 1.0, 0.1),
            ("easy", "0", 1, 0.5, 0.1),
            ("hard", "0", 0, 9.0, 0),
            ("hard", "0", 1, 8.0, 0),
        ],
        columns=["measured_on", "seed", "epoch", "mean_loss", "coherence"],
    )
    assert equal_loss(apart) is None
    assert list(Coherence.of(apart).estimates()) == ["easy - hard: over training"]
    assert Coherence.of(apart[apart["measured_on"] == "easy"]).estimates() == {}


def test_epochs_and_seeds_without_coherence_are_skipped():
    table = curves()
    # The second seed has no hard group, and at epoch 3 the first one's gradients are all zero.
    table = table[~((table["seed"] == "1") & (table["measured_on"] == "hard"))]
    table.loc[table["epoch"] == 3, "coherence"] = None
    found = Coherence.of(table).estimates()
    assert found["easy - hard: over training"].num_seeds == 1
    assert found["easy - hard: over training"].mean == pytest.approx((0.2 - 0.02) / 2)
    assert found["easy - hard: at equal loss"].mean == pytest.approx(0.3 * 1.5)
    before = table[table["epoch"] == 0]
    assert Coherence.of(before).estimates() == {}
    assert equal_loss(table.assign(coherence=np.nan)) is None
