"""Every robust optimizer of the registry against torch.median and the mean: shapes, dtypes, ties, layouts."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hardness import optim
from hardness.registry import OPTIMIZERS

ROBUST = [name for name, entry in OPTIMIZERS.items() if entry.is_method]
NAMES = ROBUST + [f"{name}+sgd" for name in ROBUST]
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def laid_out(tensor: torch.Tensor, layout: str) -> torch.Tensor:
    """The same numbers in another order in memory."""
    if layout == "contiguous":
        return tensor.clone()
    order = list(range(tensor.dim()))[::-1]
    if layout == "reversed":
        return tensor.permute(order).contiguous().permute(order)
    return torch.stack([tensor, tensor], -1)[..., 0]


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40)
@given(
    shape=st.lists(st.integers(0, 4), max_size=4),
    dtype=st.sampled_from(DTYPES),
    layouts=st.tuples(*[st.sampled_from(["contiguous", "reversed", "with gaps"])] * 2),
    spread=st.integers(0, 6),
    seed=st.integers(0, 2**16),
    weight_decay=st.sampled_from([0.0, 0.5]),
)
def test_it_steps_along_torchs_median_or_the_mean(name, shape, dtype, layouts, spread, seed, weight_decay):
    # Small whole numbers: many ties, and no dtype rounds them. Means of three are whole as well.
    is_mean = name.partition("+")[0] in ("ra3", "a3")
    generator = torch.Generator().manual_seed(seed)
    gradients = torch.randint(-spread, spread + 1, (5, *shape), generator=generator).to(dtype)
    gradients *= 3 if is_mean else 1
    start = torch.randint(-3, 4, shape, generator=generator).to(dtype)
    parameter = nn.Parameter(laid_out(start, layouts[0]))
    if is_mean or "+" in name:
        weight_decay = 0.0
    optimizer = optim.build(name, [parameter], lr=1.0, weight_decay=weight_decay)
    grouped = hasattr(optimizer, "collect")
    seen, expected = [], start.clone()
    for gradient in gradients:
        parameter.grad = laid_out(gradient, layouts[1])
        seen.append(gradient + weight_decay * expected)
        if grouped:
            optimizer.collect()
            assert parameter.grad is None
            if len(seen) < 3:
                continue
        optimizer.step()
        if len(seen) >= 3:
            three = torch.stack(seen[-3:])
            expected = expected - (three.sum(0) / 3 if is_mean else three.median(0).values)
        if grouped:
            seen = []
    assert torch.equal(parameter.detach(), expected)
