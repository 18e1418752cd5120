"""Hand-worked gradients: identical, orthogonal, opposite."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hardness.dynamics.coherence import WHOLE, CoherenceSums


def rows(*chunks: dict[str, list]) -> dict[str, dict]:
    coherence = CoherenceSums()
    for chunk in chunks:
        coherence.add({name: torch.tensor(values) for name, values in chunk.items()})
    return {row["layer"]: row for row in coherence.result()}


def test_identical_gradients_are_as_coherent_as_there_are_examples():
    found = rows({"w": [[3.0, 4.0]] * 4})[WHOLE]
    # |4 g|^2 / 4 |g|^2, with |g| = 5.
    assert found["m_coherence"] == pytest.approx(4)
    assert found["coherence"] == pytest.approx(1)
    assert found["sum_norm"] == pytest.approx(20)
    assert found["mean_square"] == pytest.approx(25)
    assert found["num_examples"] == 4


def test_orthogonal_gradients_have_m_coherence_1_whatever_their_lengths():
    found = rows({"w": [[1.0, 0, 0], [0, 2, 0], [0, 0, 7]]})[WHOLE]
    assert found["m_coherence"] == pytest.approx(1)
    assert found["coherence"] == pytest.approx(0, abs=1e-12)


def test_opposite_gradients_cancel():
    found = rows({"w": [[1.0, 2], [-1, -2]]})[WHOLE]
    assert found["m_coherence"] == 0
    # The least that two can have: -1 / (m - 1).
    assert found["coherence"] == pytest.approx(-1)


def test_layers_are_modules_and_the_whole_is_of_all_their_parameters():
    # Layer "a": identical (2, 0) by weight and (0) by bias; layer "b": opposite 1 and -1.
    found = rows({"a.weight": [[[2.0]], [[2.0]]], "a.bias": [[0.0], [0.0]], "b.weight": [[1.0], [-1.0]]})
    assert list(found) == [WHOLE, "a", "b"]
    assert found["a"]["m_coherence"] == pytest.approx(2)
    assert found["b"]["m_coherence"] == 0
    assert found[WHOLE]["m_coherence"] == pytest.approx(16 / 10)
    assert found[WHOLE]["coherence"] == pytest.approx((16 - 10) / 10)


def test_no_gradient_and_a_single_example_have_no_coherence():
    nothing = rows({"w": [[0.0], [0.0]]})[WHOLE]
    assert (nothing["m_coherence"], nothing["coherence"]) == (None, None)
    single = rows({"w": [[3.0]]})[WHOLE]
    assert (single["m_coherence"], single["coherence"]) == (1, None)


@given(st.integers(1, 9), st.integers(1, 6), st.integers(1, 5), st.integers(0, 999))
def test_in_chunks_of_any_size_it_is_what_the_definition_says(num_examples, size, chunk, seed):
    gradients = torch.randn(num_examples, size, generator=torch.Generator().manual_seed(seed))
    coherence = CoherenceSums()
    for part in gradients.split(chunk):
        coherence.add({"layer.weight": part})
    whole, layer = coherence.result()
    double = gradients.double()
    expected = (double.sum(0).square().sum() / double.square().sum()).item()
    assert whole["m_coherence"] == layer["m_coherence"] == pytest.approx(expected, rel=1e-5)
    assert 0 <= whole["m_coherence"] <= num_examples * (1 + 1e-6)
    if num_examples > 1:
        products = double @ double.T
        between = (products.sum() - products.trace()) / (num_examples * (num_examples - 1))
        mean_square = products.trace() / num_examples
        assert whole["coherence"] == pytest.approx((between / mean_square).item(), rel=1e-4, abs=1e-6)
