import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hardness import datasets, gradients, models, optim
from hardness.config import Data
from hardness.optim.winsorized import WinsorizedSGD, winsorized_mean
from hardness.ranks import Ranks
from hardness.training.step import train_step
from tests.conftest import refused


def test_a_hand_worked_mean():
    # 1, 2, 3, 4, 100 at c=2: clipped to 2..4.
    column = torch.tensor([[100.0], [1], [3], [2], [4]])
    assert winsorized_mean(column, 1).tolist() == [22]
    assert winsorized_mean(column, 2).tolist() == [3]
    assert winsorized_mean(column, 3).tolist() == [3]
    for c in (0, 4):
        with pytest.raises(ValueError, match=r"1\.\.3 for 5 examples"):
            winsorized_mean(column, c)


@given(st.data(), st.integers(1, 9), st.lists(st.integers(1, 3), max_size=3), st.integers(0, 999))
def test_it_clips_at_what_sorting_finds(data, size, shape, seed):
    c = data.draw(st.integers(1, (size + 1) // 2))
    gradients = torch.randint(-4, 5, (size, *shape), generator=torch.Generator().manual_seed(seed)).float()
    ordered = gradients.sort(0).values
    expected = gradients.clamp(ordered[c - 1], ordered[size - c]).mean(0)
    assert torch.equal(winsorized_mean(gradients, c), expected)
    if 2 * c == size + 1:
        torch.testing.assert_close(expected, gradients.median(0).values)


def test_nan_propagates_and_fewer_than_c_infinities_are_clipped():
    inf, nan = torch.inf, torch.nan
    assert winsorized_mean(torch.tensor([1.0, nan, 2, 3]), 2).isnan()
    assert winsorized_mean(torch.tensor([1.0, inf, 2, 3, 4]), 2).item() == 3
    assert winsorized_mean(torch.tensor([1.0, inf, 2, inf, 4]), 2).item() == inf


def test_without_clipping_it_is_sgd_and_frozen_parameters_stay():
    data = datasets.load(Data(), model="mlp")
    images, labels, _ = data.train.__getitems__(range(9))
    after = []
    for name, options in (("sgd", {}), ("winsorized", {"c": 1})):
        model = models.build("mlp", data, seed=0)
        next(model.parameters()).requires_grad_(False)
        optimizer = optim.build(name, model.parameters(), lr=0.5)
        vars(optimizer).update(options)
        loss, _ = train_step(model, optimizer, images, labels)
        after.append([loss, *model.parameters()])
    torch.testing.assert_close(*after)


def test_batch_norm_ranks_and_too_little_memory_are_errors(monkeypatch):
    with_norm = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    images, labels = torch.zeros(4, 2), torch.zeros(4, dtype=torch.long)
    with refused("batch-norm-mixes-examples"):
        WinsorizedSGD(with_norm.parameters(), lr=1.0).backward(with_norm, images, labels)
    with pytest.raises(RuntimeError, match="one process"):
        train_step(
            nn.Linear(2, 2),
            WinsorizedSGD([nn.Parameter(labels.float())], lr=1.0),
            images,
            labels,
            ranks=Ranks(0, 2),
        )
    monkeypatch.setattr(gradients, "_available", lambda device: 10)
    model = nn.Linear(2, 2)
    with refused("gradients-too-large", batch_size=4, num_parameters=6):
        WinsorizedSGD(model.parameters(), lr=1.0).backward(model, images, labels)
