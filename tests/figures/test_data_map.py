"""The data map, against nearest centres and by hand; as small for many examples as for few."""

import numpy as np
import pandas as pd

from hardness.figures import data_map, style


def scores(variability, confidence, first=1, mean_loss=0.5) -> dict[str, pd.DataFrame]:
    columns = {"variability": variability, "confidence": confidence, "mean_loss": mean_loss}
    table = pd.DataFrame(columns).assign(first_learned_epoch=first)
    return {"0": table.astype({"first_learned_epoch": "Int32"})}


def everywhere(num_examples: int) -> dict[str, pd.DataFrame]:
    generator = np.random.default_rng(0)
    confidence = generator.random(num_examples)
    return scores(np.sqrt(confidence * (1 - confidence)) * generator.random(num_examples), confidence)


def test_an_example_is_in_the_hexagon_whose_centre_is_nearest():
    found = everywhere(2000)
    table = data_map.prepare(found, 1)
    # As shown: a step of the grid up is sqrt 3 times as long as one aside.
    stretch = [1, 3**0.5 * data_map._WIDTH / data_map._HEIGHT]
    places = ["variability", "confidence"]
    apart = (found["0"][places].to_numpy()[:, None] - table[places].to_numpy()) * stretch
    nearest = np.bincount((apart**2).sum(2).argmin(1), minlength=len(table))
    assert nearest.tolist() == table["num_examples"].tolist()


def test_what_a_bin_says_by_hand():
    first = [2, 4, None, None, 3]
    found = scores([0.25] * 3 + [0.0, 0.0], [0.5] * 3 + [0.0, 1.0], first, [0.5] * 4 + [None])
    table = data_map.prepare({**found, "1": found["0"]}, num_epochs=8)
    hard, ambiguous = table.to_dict("records")
    assert (hard["variability"], hard["confidence"], hard["num_examples"]) == (0, 0, 2)
    assert (hard["first_learned_epoch"], hard["share_never"]) == (9, 1)
    assert ambiguous["num_examples"] == 6
    assert (ambiguous["first_learned_epoch"], ambiguous["share_never"]) == (5, 1 / 3)


def test_many_examples_are_a_small_figure(tmp_path):
    table = data_map.prepare(everywhere(100_000), 1)
    assert table["num_examples"].sum() == 100_000
    style.save(data_map.draw, table, "title", tmp_path / "figure", ["svg"])
    assert (tmp_path / "figure.svg").stat().st_size < 300_000


def test_words_are_where_no_example_can_be():
    (axes, _) = data_map.draw(data_map.prepare(everywhere(100_000), 1), "title").axes
    words = {text.get_text(): text.get_position() for text in axes.texts}
    assert {"easy to learn", "ambiguous", "hard to learn", "1 example", "10 examples"} <= set(words)
    for variability, confidence in words.values():
        assert variability**2 > confidence * (1 - confidence)
