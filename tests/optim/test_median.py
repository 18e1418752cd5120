import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from hardness.optim import median_of_three

INF, NAN = float("inf"), float("nan")
values = st.floats(-9, 9, width=16) | st.sampled_from([0.0, 1.0, -1.0])


@given(st.data(), array_shapes(max_dims=3, max_side=4), st.sampled_from([np.float16, np.float32, np.float64]))
def test_it_is_torchs_median(data, shape, dtype):
    three = [torch.from_numpy(data.draw(arrays(dtype, shape, elements=values))) for _ in range(3)]
    assert torch.equal(median_of_three(*three), torch.stack(three).median(0).values)


def test_nan_propagates_from_every_argument():
    for position in range(3):
        three = [torch.tensor([1.0]), torch.tensor([2.0]), torch.tensor([3.0])]
        three[position] = torch.tensor([NAN])
        assert median_of_three(*three).isnan().all()


def test_a_single_infinity_is_ignored_and_two_are_not():
    a, b, c = torch.tensor([INF, -INF, INF]), torch.tensor([1.0, 2.0, INF]), torch.tensor([3.0, 4.0, 0.0])
    assert median_of_three(a, b, c).tolist() == [3.0, 2.0, INF]
