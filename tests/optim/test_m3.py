import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hardness import optim
from hardness.optim import A3, M3
from hardness.optim.m3 import GroupGradients
from hardness.training.step import train_step


def give(optimizer: GroupGradients, parameters, gradients) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = None if gradient is None else torch.tensor(gradient)
    optimizer.collect()


def test_a_hand_worked_step_in_two_groups():
    # lr 0.5: medians of (1, 9, 4) and (-3, 0, 0). lr 1, decay 1, from 2: arrivals (3, 7, 4).
    first, second, idle = (
        nn.Parameter(torch.zeros(2)),
        nn.Parameter(torch.full((1,), 2.0)),
        nn.Parameter(torch.ones(1)),
    )
    groups = [{"params": [first, idle]}, {"params": [second], "lr": 1.0, "weight_decay": 1.0}]
    optimizer = M3(groups, lr=0.5)
    for a, b in (([1.0, -3.0], [1.0]), ([9.0, 0.0], [5.0]), ([4.0, 0.0], [2.0])):
        give(optimizer, (first, second, idle), (a, b, None))
    assert first.grad is None
    optimizer.step()
    assert first.tolist() == [-2, 0]
    assert second.tolist() == [-2]
    assert idle.tolist() == [1]


def test_several_steps_against_torchs_median():
    generator = torch.Generator().manual_seed(0)
    parameter = nn.Parameter(torch.randn(3, 4, generator=generator))
    optimizer = M3([parameter], lr=0.1, weight_decay=0.3)
    expected = parameter.detach().clone()
    for _ in range(4):
        gradients = torch.randn(3, 3, 4, generator=generator)
        for gradient in gradients:
            give(optimizer, [parameter], [gradient.tolist()])
        optimizer.step()
        expected = expected - 0.1 * (gradients + 0.3 * expected).median(0).values
        torch.testing.assert_close(parameter.detach(), expected)


def test_the_control_steps_along_the_mean():
    parameter, idle = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.ones(1))
    optimizer = A3([parameter, idle], lr=1.0)
    for step in range(1, 3):
        for gradient in ([1.0, -3.0], [9.0, 0.0], [5.0, 0.0]):
            give(optimizer, (parameter, idle), (gradient, None))
        optimizer.step()
        assert parameter.tolist() == [-5 * step, 1 * step]
    assert idle.tolist() == [1]


def test_state_is_two_numbers_per_parameter_and_is_allocated_once():
    parameter = nn.Parameter(torch.zeros(5))
    for optimizer, names in (
        (M3([parameter], lr=1.0), ["direction", "high"]),
        (A3([parameter], lr=1.0), ["direction"]),
    ):
        places = set()
        for _ in range(3):
            for _ in range(3):
                give(optimizer, [parameter], [[1.0] * 5])
            optimizer.step()
            state = optimizer.state[parameter]
            assert sorted(name for name, value in state.items() if torch.is_tensor(value)) == names
            places.add(tuple(state[name].data_ptr() for name in names))
        assert len(places) == 1


def test_another_number_of_collects_raises():
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = M3([parameter], lr=1.0)
    with pytest.raises(RuntimeError, match="needs 3 collects before a step, not 0"):
        optimizer.step()
    for number in range(3):
        give(optimizer, [parameter], [[1.0]])
        if number < 2:
            with pytest.raises(RuntimeError, match=f"not {number + 1}"):
                optimizer.step()
    with pytest.raises(RuntimeError, match=r"call step\(\) or discard\(\)"):
        optimizer.collect()
    optimizer.step()
    with pytest.raises(RuntimeError, match="closure"):
        optimizer.step(lambda: 0)


def test_a_gradient_in_some_groups_only_raises():
    always, sometimes = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimizer = M3([always, sometimes], lr=1.0)
    for gradient in ([1.0], None):
        give(optimizer, [always, sometimes], [[1.0], gradient])
    with pytest.raises(RuntimeError, match="in some groups but not in others"):
        give(optimizer, [always, sometimes], [[1.0], [1.0]])
    optimizer = M3([always, sometimes], lr=1.0)
    for gradient in ([1.0], [1.0], None):
        give(optimizer, [always, sometimes], [[1.0], gradient])
    with pytest.raises(RuntimeError, match="in some groups but not in others"):
        optimizer.step()


def test_a_gradient_that_was_not_collected_raises():
    parameter, other = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimizer = M3([parameter, other], lr=1.0)
    for _ in range(3):
        give(optimizer, [parameter, other], [[1.0], None])
    other.grad = torch.ones(1)
    with pytest.raises(RuntimeError, match="not collected"):
        optimizer.step()


def test_after_a_skipped_step_gradients_must_be_cleared():
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = M3([parameter], lr=1.0)
    for _ in range(2):
        for gradient in ([1.0], [2.0], [3.0]):
            give(optimizer, [parameter], [gradient])
        optimizer.direction_to_grad()
        optimizer.zero_grad()
    for gradient in ([4.0], [5.0], [6.0]):
        give(optimizer, [parameter], [gradient])
    optimizer.direction_to_grad()
    # Skipped and not cleared: backward() would add to .grad.
    parameter.grad += 1
    with pytest.raises(RuntimeError, match="skipped step"):
        optimizer.collect()


@pytest.mark.parametrize("optimizer_class", [M3, A3])
@pytest.mark.parametrize("saved_after", [0, 1, 2, 3])
def test_the_state_continues_bit_for_bit(optimizer_class, saved_after, tmp_path):
    gradients = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).tolist()
    parameter, reference = nn.Parameter(torch.ones(5)), nn.Parameter(torch.ones(5))
    optimizer, restored = optimizer_class([parameter], lr=0.1), optimizer_class([reference], lr=0.1)
    for gradient in gradients[:saved_after]:
        give(optimizer, [parameter], [gradient])
    torch.save(optimizer.state_dict(), tmp_path / "state")
    restored.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    for gradient in gradients[saved_after:]:
        give(optimizer, [parameter], [gradient])
        give(restored, [reference], [gradient])
    optimizer.step()
    restored.step()
    assert torch.equal(parameter, reference)


@pytest.mark.parametrize("name", ["m3", "m3+adamw"])
def test_after_a_skipped_step_it_and_its_checkpoint_continue(name):
    def batch(optimizer, parameter, *gradients):
        optimizer.zero_grad()
        for gradient in gradients:
            give(optimizer, [parameter], [[gradient]])

    parameter = nn.Parameter(torch.zeros(1))
    optimizer = optim.build(name, [parameter], lr=0.1)
    batch(optimizer, parameter, 1.0, 2.0, 3.0)
    optimizer.step()
    batch(optimizer, parameter, 1.0, torch.inf, torch.inf)
    optimizer.direction_to_grad()

    reference = nn.Parameter(parameter.detach().clone())
    restored = optim.build(name, [reference], lr=9.0)
    batch(restored, reference, 7.0)
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for one, its in ((optimizer, parameter), (restored, reference)):
        batch(one, its, 4.0, 5.0, 6.0)
        one.step()
    assert torch.equal(parameter, reference)
    if name == "m3":
        assert parameter.item() == pytest.approx(-0.2 - 0.5)


def test_discard_drops_an_abandoned_batch():
    for optimizer_name in ("m3", "m3+sgd"):
        parameter = nn.Parameter(torch.zeros(1))
        optimizer = optim.build(optimizer_name, [parameter], lr=1.0)
        give(optimizer, [parameter], [[99.0]])
        optimizer.discard()
        for gradient in ([1.0], [2.0], [3.0]):
            give(optimizer, [parameter], [gradient])
        with pytest.raises(RuntimeError, match=r"call step\(\) or discard\(\)"):
            optimizer.collect()
        optimizer.step()
        assert parameter.item() == -2


def test_a_step_without_a_direction_raises():
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = M3([parameter], lr=1.0)
    for gradient in ([1.0], [2.0], [3.0]):
        give(optimizer, [parameter], [gradient])
    optimizer.direction_to_grad()
    optimizer.zero_grad()
    with pytest.raises(RuntimeError, match="cleared the direction"):
        optimizer.step()


def test_reading_the_state_of_a_parameter_without_state_is_harmless():
    parameter, idle = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimizer = M3([parameter, idle], lr=1.0)
    for _ in range(2):
        for gradient in ([1.0], [2.0], [3.0]):
            assert not optimizer.state[idle]
            give(optimizer, [parameter, idle], [gradient, None])
        optimizer.step()
    M3([parameter, idle], lr=1.0).load_state_dict(optimizer.state_dict())
    assert (parameter.item(), idle.item()) == (-4, 0)


def test_groups_are_positions_modulo_three():
    generator = torch.Generator().manual_seed(0)
    model = nn.Linear(4, 3)
    images, labels = torch.randn(8, 4, generator=generator), torch.arange(8) % 3
    before = model.weight.detach().clone()
    gradients = [
        torch.autograd.grad(F.cross_entropy(model(images[g::3]), labels[g::3]), model.weight)[0]
        for g in range(3)
    ]
    whole = F.cross_entropy(model(images), labels).item()
    expected_logits = model(images).detach()
    loss, logits = train_step(model, M3(model.parameters(), lr=0.5), images, labels)
    torch.testing.assert_close(model.weight.detach(), before - 0.5 * torch.stack(gradients).median(0).values)
    torch.testing.assert_close(logits, expected_logits)
    assert loss.item() == pytest.approx(whole, rel=1e-5)
