import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hardness.dynamics.record import record


def test_five_examples_worked_by_hand():
    logits = torch.tensor([[0.0, 0.0], [math.log(3), 0.0], [math.log(3), 0.0], [2.0, 5.0], [2.0, 5.0]])
    labels = torch.tensor([0, 0, 1, 1, 0])
    prediction, loss, margin, el2n = record(logits, labels)
    assert prediction.tolist()[1:] == [0, 0, 1, 1]
    # Probabilities of the label: 1/2, 3/4, 1/4, s, 1 - s with s = 1 / (1 + e^-3).
    s = 1 / (1 + math.exp(-3))
    assert loss.tolist() == pytest.approx([-math.log(p) for p in (0.5, 0.75, 0.25, s, 1 - s)], rel=1e-5)
    assert margin.tolist() == pytest.approx([0, math.log(3), -math.log(3), 3, -3], rel=1e-5)
    assert el2n.tolist() == pytest.approx(
        [math.sqrt(2) * (1 - p) for p in (0.5, 0.75, 0.25, s, 1 - s)], rel=1e-4
    )


@given(st.integers(2, 7), st.integers(1, 9), st.integers(0, 99))
def test_every_column_against_its_definition(num_classes, batch, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(batch, num_classes, generator=generator)
    labels = torch.randint(0, num_classes, (batch,), generator=generator)
    prediction, loss, margin, el2n = record(logits, labels)
    for row in range(batch):
        probabilities = logits[row].double().softmax(0)
        one_hot = torch.eye(num_classes)[labels[row]]
        others = torch.cat([logits[row][: labels[row]], logits[row][labels[row] + 1 :]])
        assert prediction[row] == logits[row].argmax()
        assert loss[row].item() == pytest.approx(-probabilities[labels[row]].log().item(), abs=1e-5)
        assert margin[row].item() == pytest.approx((logits[row][labels[row]] - others.max()).item(), abs=1e-5)
        assert el2n[row].item() == pytest.approx((probabilities - one_hot).norm().item(), abs=1e-5)


def test_a_loss_far_below_one_step_of_float32_is_kept():
    _, loss, _, el2n = record(torch.tensor([[20.0, 0.0]]), torch.tensor([0]))
    assert loss.item() == pytest.approx(math.log1p(math.exp(-20)), rel=1e-5)
    assert el2n.item() == pytest.approx(math.sqrt(2) * math.exp(-20), rel=1e-5)


@pytest.mark.parametrize("num_classes", [3, 200])
def test_of_equal_logits_the_first_is_the_prediction(num_classes):
    logits = torch.zeros(3, num_classes)
    logits[2, num_classes - 2 :] = 1
    prediction, _, margin, _ = record(logits, torch.tensor([0, 1, num_classes - 1]))
    assert prediction.tolist() == logits.argmax(1).tolist() == [0, 0, num_classes - 2]
    assert margin.tolist() == [0, 0, 0]
