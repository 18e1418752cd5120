"""RM3 and RA3 against hand-worked sequences and against torch.median."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hardness.optim import A3, M3, RA3, RM3, ScaledRA3, robust
from hardness.optim import base as optim_base

GRADIENTS = [1.0, 10.0, 4.0, -2.0, 7.0]
# Medians of (1, 10, 4), (10, 4, -2), (4, -2, 7); averages of the same.
MEDIANS = [4.0, 4.0, 4.0]
AVERAGES = [5.0, 4.0, 3.0]


def run(optimizer_class, gradients, **options) -> list[float]:
    """The parameter after each step, from 0."""
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = optimizer_class([parameter], **options)
    values = []
    for gradient in gradients:
        parameter.grad = torch.tensor([gradient])
        optimizer.step()
        values.append(parameter.item())
    return values


@pytest.mark.parametrize(("optimizer_class", "directions"), [(RM3, MEDIANS), (RA3, AVERAGES)])
def test_a_hand_worked_sequence(optimizer_class, directions):
    a, b, c = directions
    expected = [0, 0, -0.5 * a, -0.5 * (a + b), -0.5 * (a + b + c)]
    assert run(optimizer_class, GRADIENTS, lr=0.5) == pytest.approx(expected)


def test_the_scaled_average_by_hand():
    # Of (3, 0), (0, 0), (6, 3) the average is (3, 1) and the median (3, 0): sqrt(10) becomes 3. The numbers
    # are of two parameters, in groups of two learning rates: the norms are of both together.
    first, second = (nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in range(2))
    optimizer = ScaledRA3([{"params": [first]}, {"params": [second], "lr": 2.0}], lr=1.0)
    expected = [[0, 0], [0, 0], [-9 / 10**0.5, -2 * 3 / 10**0.5]]
    # Of (0, 0), (6, 3), (-6, -3) both are zero, and so is the step.
    for gradients, values in zip(((3, 0), (0, 0), (6, 3), (-6, -3)), [*expected, expected[-1]], strict=True):
        for parameter, gradient in zip((first, second), gradients, strict=True):
            parameter.grad = torch.full_like(parameter, gradient)
        optimizer.step()
        assert [first.item(), second.item()] == pytest.approx(values)


def test_the_scaled_average_is_parallel_to_the_average_and_as_long_as_the_median():
    generator = torch.Generator().manual_seed(0)
    shapes = (3, 4), (5,), ()
    steps = {each: [] for each in (RM3, RA3, ScaledRA3)}
    gradients = [[torch.randn(shape, generator=generator) for shape in shapes] for _ in range(6)]
    for optimizer_class, directions in steps.items():
        parameters = [nn.Parameter(torch.zeros(shape)) for shape in shapes]
        optimizer = optimizer_class(parameters, lr=0.5, maximize=True)
        for of_step in gradients:
            before = torch.cat([each.detach().flatten() for each in parameters])
            for parameter, gradient in zip(parameters, of_step, strict=True):
                parameter.grad = gradient.clone()
            optimizer.step()
            directions.append(torch.cat([each.detach().flatten() for each in parameters]) - before)
    for median, average, scaled in list(zip(*steps.values(), strict=True))[2:]:
        torch.testing.assert_close(scaled.norm(), median.norm())
        torch.testing.assert_close(scaled / scaled.norm(), average / average.norm())
        assert not torch.allclose(scaled, average)


@pytest.mark.parametrize("setting", ["fused", "capturable"])
def test_unsupported_options_of_the_scaled_average(setting):
    parameter = nn.Parameter(torch.zeros(1))
    with pytest.raises(ValueError, match="ScaledRA3 supports neither fused nor capturable"):
        ScaledRA3([parameter], lr=1.0, **{setting: True})
    with pytest.raises(ValueError, match="must be one of m3, a3, rm3, ra3, not 'ra3-scaled'"):
        robust(torch.optim.SGD([parameter], lr=1.0), "ra3-scaled")
    with pytest.raises(ValueError, match="ScaledRA3 cannot be made robust"):
        robust(ScaledRA3([parameter], lr=1.0))


@pytest.mark.parametrize("optimizer_class", [RM3, RA3, ScaledRA3])
def test_the_first_two_steps_change_nothing(optimizer_class):
    assert run(optimizer_class, GRADIENTS, lr=0.5, weight_decay=0.1)[:2] == [0, 0]


@pytest.mark.parametrize("optimizer_class", [RM3, RA3, ScaledRA3])
def test_weight_decay_is_added_to_a_new_gradient(optimizer_class):
    # From 2, lr 1, decay 0.5: gradients 1 + 1, 2 + 1, 3 + 1 -> direction 3 -> -1.
    # Then 0 + 0.5 * -1: of 3, 4, -0.5 the median is 3 and the average 6.5 / 3.
    parameter = nn.Parameter(torch.full((1,), 2.0))
    optimizer = optimizer_class([parameter], lr=1.0, weight_decay=0.5)
    for gradient in (1.0, 2.0, 3.0, 0.0):
        parameter.grad = torch.tensor([gradient])
        optimizer.step()
    # Of one number, the average scaled is as long as the median.
    expected = -1 - (6.5 / 3 if optimizer_class is RA3 else 3)
    assert parameter.item() == pytest.approx(expected)


def test_momentum_is_of_the_direction():
    # Directions 4, 4, 4 with momentum 0.5: 4, 6, 7.
    assert run(RM3, GRADIENTS, lr=1.0, momentum=0.5) == pytest.approx([0, 0, -4, -10, -17])


@pytest.mark.parametrize("optimizer_class", [RM3, RA3, ScaledRA3, M3, A3])
def test_decay_maximize_and_momentum_against_a_plain_loop(optimizer_class):
    # A gradient is negated, then decayed; the direction is added to the running sum.
    gradients = torch.randn(9, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    start = torch.arange(5, dtype=torch.float64)
    parameter, expected = nn.Parameter(start.clone()), start.clone()
    optimizer = optimizer_class([parameter], lr=0.1, weight_decay=0.3, momentum=0.5, maximize=True)
    in_groups = optimizer_class in (M3, A3)
    seen, running = [], torch.zeros(5)
    for number, gradient in enumerate(gradients, start=1):
        parameter.grad = gradient.clone()
        optimizer.collect() if in_groups else optimizer.step()
        seen.append(-gradient + 0.3 * expected)
        if number % 3 == 0 if in_groups else number >= 3:
            three = torch.stack(seen[-3:])
            median, average = three.median(0).values, three.mean(0)
            direction = median if optimizer_class in (RM3, M3) else average
            if optimizer_class is ScaledRA3:
                direction = average * median.norm() / average.norm()
            running = 0.5 * running + direction
            expected = expected - 0.1 * running
            if in_groups:
                optimizer.step()
        torch.testing.assert_close(parameter.detach(), expected)


def test_two_groups_against_torchs_median():
    generator = torch.Generator().manual_seed(0)
    first, second, idle = (
        nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((3, 4), (5,), (2,))
    )
    groups = [{"params": [first, idle]}, {"params": [second], "lr": 0.3, "weight_decay": 0.2}]
    optimizer = RM3(groups, lr=0.1)
    expected = [first.detach().clone(), second.detach().clone(), idle.detach().clone()]
    seen: list[list[torch.Tensor]] = [[], []]
    for _ in range(7):
        for place, (parameter, lr, decay) in enumerate(((first, 0.1, 0.0), (second, 0.3, 0.2))):
            parameter.grad = torch.randn(parameter.shape, generator=generator)
            seen[place].append(parameter.grad + decay * expected[place])
            if len(seen[place]) >= 3:
                expected[place] = expected[place] - lr * torch.stack(seen[place][-3:]).median(0).values
        optimizer.step()
        for parameter, value in zip((first, second, idle), expected, strict=True):
            torch.testing.assert_close(parameter.detach(), value)


def test_a_parameter_counts_its_own_gradients():
    always, sometimes = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimizer = RM3([always, sometimes], lr=1.0)
    for step in range(4):
        always.grad = torch.ones(1)
        sometimes.grad = torch.ones(1) if step > 0 else None
        optimizer.step()
    assert (always.item(), sometimes.item()) == (-2, -1)


@pytest.mark.parametrize("optimizer_class", [RM3, RA3, ScaledRA3])
@pytest.mark.parametrize("saved_after", [1, 2, 3, 4])
def test_the_state_continues_bit_for_bit(optimizer_class, saved_after, tmp_path):
    generator = torch.Generator().manual_seed(1)
    gradients = torch.randn(6, 9, generator=generator)
    parameter = nn.Parameter(torch.randn(9, generator=generator))
    optimizer = optimizer_class([parameter], lr=0.1, weight_decay=0.01)
    for gradient in gradients[:saved_after]:
        parameter.grad = gradient.clone()
        optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "state")
    copied = nn.Parameter(copy.deepcopy(parameter.detach()))
    restored = optimizer_class([copied], lr=9.0)
    restored.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    for gradient in gradients[saved_after:]:
        parameter.grad, copied.grad = gradient.clone(), gradient.clone()
        optimizer.step()
        restored.step()
    assert torch.equal(parameter, copied)


def test_a_reused_gradient_buffer_is_harmless():
    parameter = nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    optimizer = RM3([parameter], lr=1.0)
    for gradient in GRADIENTS[:3]:
        parameter.grad.fill_(gradient)
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
    assert parameter.item() == -4


def test_closure_settings_and_kinds_of_gradients():
    parameter = nn.Parameter(torch.zeros(2))
    optimizer = RM3([parameter], lr=1.0)

    def closure():
        optimizer.zero_grad()
        loss = (parameter - 1).square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 2
    with pytest.raises(ValueError, match="lr must be 0 or more"):
        RM3([parameter], lr=-1.0)
    parameter.grad = None
    parameter.grad = torch.sparse_coo_tensor([[0]], [1.0], (2,), check_invariants=True)
    with pytest.raises(TypeError, match="RM3 does not support sparse gradients"):
        RM3([parameter], lr=1.0).step()
    complex_one = nn.Parameter(torch.zeros(2, dtype=torch.complex64))
    complex_one.grad = torch.zeros_like(complex_one)
    with pytest.raises(TypeError, match="RM3 does not support complex gradients"):
        RM3([complex_one], lr=1.0).step()


@pytest.mark.parametrize(
    ("of", "into"), [(M3, RM3), (RM3, M3), (M3, A3), (torch.optim.Adam, RM3), (torch.optim.SGD, M3)]
)
def test_the_state_of_another_optimizer_is_refused(of, into):
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.ones(2)
    other = of([parameter], lr=1.0)
    other.collect() if of is M3 else other.step()
    optimizer = into([parameter], lr=1.0)
    with pytest.raises(ValueError, match=f"not the state of {into.__name__}: "):
        optimizer.load_state_dict(other.state_dict())


def test_state_is_two_numbers_per_parameter_and_is_allocated_once():
    parameter = nn.Parameter(torch.zeros(5))
    for optimizer in (each([parameter], lr=1.0) for each in (RM3, RA3, ScaledRA3)):
        places = []
        for _ in range(6):
            parameter.grad = torch.ones(5)
            optimizer.step()
            state = optimizer.state[parameter]
            places.append({value.data_ptr() for value in state.values() if torch.is_tensor(value)})
        assert sorted(state) == ["num_seen", "older", "previous"]
        assert places[0] == places[1] == places[2] == places[5]


@given(st.sampled_from([torch.float16, torch.bfloat16, torch.float64]), st.integers(0, 99))
def test_other_dtypes_and_layouts_against_torchs_median(dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    parameter = nn.Parameter(torch.zeros(4, 3, 2, dtype=dtype).permute(2, 0, 1))
    optimizer = RM3([parameter], lr=1.0)
    gradients = torch.randint(-3, 4, (3, 2, 4, 3), generator=generator).to(dtype)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
    assert torch.equal(parameter, -gradients.median(0).values)


@pytest.mark.parametrize("schedule", ["OneCycleLR", "CyclicLR"])
@pytest.mark.parametrize(
    ("momentum", "cycle", "warns"), [(0.0, True, True), (0.0, False, False), (0.9, True, False)]
)
def test_a_schedule_does_not_switch_on_momentum_silently(capsys, schedule, momentum, cycle, warns):
    optim_base._warn_once.cache_clear()
    parameter = nn.Parameter(torch.ones(3))
    optimizer = RM3([parameter], lr=0.1, momentum=momentum)
    limits = {"base_lr": 0.01} if schedule == "CyclicLR" else {"total_steps": 9}
    scheduler = getattr(torch.optim.lr_scheduler, schedule)(
        optimizer, max_lr=0.1, cycle_momentum=cycle, **limits
    )
    for _ in range(5):
        parameter.grad = torch.ones(3)
        optimizer.step()
        scheduler.step()
    assert capsys.readouterr().err.count("cycle_momentum=False") == warns
