"""Plain, foreach and fused are one arithmetic; which of them runs; what happens without a compiler."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

from hardness.optim import A3, M3, RA3, RM3, kernels, robust

SHAPES = ((33, 5), (7,), (2, 3, 4, 4), ())
CLASSES = (RM3, RA3, M3, A3)


def walk(build, dtype=torch.float32, steps=5, device="cpu") -> list[torch.Tensor]:
    """The parameters after some steps, with a learning rate that changes."""
    generator = torch.Generator().manual_seed(0)

    def draw(shape):
        return torch.randn(shape, generator=generator).to(device, dtype)

    parameters = [nn.Parameter(draw(shape)) for shape in SHAPES]
    # A layout of its own.
    parameters[2] = nn.Parameter(parameters[2].detach().to(memory_format=torch.channels_last))
    optimizer = build(parameters)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1.0 / (1 + step)
        for _ in range(3 if hasattr(optimizer, "collect") else 1):
            for parameter in parameters:
                parameter.grad = draw(parameter.shape)
            if hasattr(optimizer, "collect"):
                optimizer.collect()
        optimizer.step()
    return [parameter.detach() for parameter in parameters]


OPTIONS = (
    {},
    {"weight_decay": 0.1, "momentum": 0.9, "maximize": True},
)


@pytest.mark.parametrize("optimizer_class", CLASSES)
@pytest.mark.parametrize("options", OPTIONS, ids=["bare", "all"])
def test_every_way_gives_the_same_bits_in_float32(optimizer_class, options):
    ways = ({"foreach": False}, {"foreach": True}, {"fused": True}, {"fused": True, "capturable": True}, {})
    plain, *others = (walk(lambda p, way=way: optimizer_class(p, lr=1.0, **options, **way)) for way in ways)
    assert not any(kernel in kernels._failed for kernel in kernels._failed), kernels._failed
    for other in others:
        for a, b in zip(plain, other, strict=True):
            if optimizer_class in (RM3, M3):
                assert torch.equal(a, b)
            else:
                # Compilers of older torch (2.8) multiply by a third instead of dividing by three: a
                # rounding more in each of five steps, of numbers below 16.
                torch.testing.assert_close(a, b, rtol=0, atol=5 * 16 * 2**-24)


@pytest.mark.parametrize("optimizer_class", CLASSES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_fused_is_within_roundings_in_half_precision(optimizer_class, dtype):
    # Compiled, a chain of operations is rounded once, at its end; plain, after each: in five steps a few
    # roundings of numbers below 4.
    def build(fused):
        return lambda parameters: optimizer_class(parameters, lr=1.0, fused=fused)

    tolerance = 5 * 2 * torch.finfo(dtype).eps
    start = walk(build(False), dtype, steps=0)
    plain, fused = walk(build(False), dtype), walk(build(True), dtype)
    for a, b in zip(plain, fused, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance)
    assert (plain[0] - start[0]).abs().max() > 4 * tolerance


@pytest.mark.parametrize("way", [{"foreach": False}, {"foreach": True}, {"fused": True}], ids=str)
@pytest.mark.parametrize("name", ["rm3", "m3", "rm3+sgd"])
def test_nan_propagates_and_one_infinity_is_outvoted(name, way):
    """A coordinate an order of 1, 2 and what is not finite."""
    inf, nan = torch.inf, torch.nan
    gradients = torch.tensor(
        [[nan, 1, 1, inf, 1, 1, inf], [1, nan, 2, 1, -inf, 2, 1], [2, 2, nan, 2, 2, inf, inf]]
    )
    parameter = nn.Parameter(torch.zeros(7))
    if "+" in name:
        optimizer = robust(torch.optim.SGD([parameter], lr=1.0), "rm3")
    else:
        optimizer = {"rm3": RM3, "m3": M3}[name]([parameter], lr=1.0, **way)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        if hasattr(optimizer, "collect"):
            optimizer.collect()
        else:
            optimizer.step()
    if hasattr(optimizer, "collect"):
        optimizer.step()
    assert parameter[:3].isnan().all()
    assert parameter[3:].tolist() == [-2, -1, -2, -inf]


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@needs_gpu
@pytest.mark.parametrize(
    "build",
    [
        lambda p: RM3(p, lr=0.1, capturable=True),
        lambda p: RA3(p, lr=0.1, capturable=True, momentum=0.9),
        lambda p: robust(torch.optim.AdamW(p, lr=0.1, capturable=True)),
    ],
)
def test_a_cuda_graph_steps_as_without_one(build):
    gradients = torch.randn(9, 64, generator=torch.Generator().manual_seed(0)).cuda()
    plain, captured = (nn.Parameter(torch.zeros(64, device="cuda")) for _ in range(2))
    optimizer = build([plain])
    for gradient in gradients:
        plain.grad = gradient.clone()
        optimizer.step()

    captured.grad = torch.zeros(64, device="cuda")
    optimizer, graph = build([captured]), torch.cuda.CUDAGraph()
    warm_up = torch.cuda.Stream()
    with torch.cuda.stream(warm_up):
        for gradient in gradients[:4]:
            captured.grad.copy_(gradient)
            optimizer.step()
    torch.cuda.current_stream().wait_stream(warm_up)
    with torch.cuda.graph(graph):
        optimizer.step()
    for gradient in gradients[4:]:
        captured.grad.copy_(gradient)
        graph.replay()
    torch.testing.assert_close(captured, plain)


@needs_gpu
@pytest.mark.parametrize("optimizer_class", CLASSES)
def test_fused_on_a_gpu(optimizer_class):
    plain, fused = (
        walk(lambda p, w=way: optimizer_class(p, lr=1.0, fused=w), device="cuda") for way in (False, True)
    )
    for a, b in zip(plain, fused, strict=True):
        torch.testing.assert_close(a, b)


def test_maximize_is_the_same_up_the_negated_gradient():
    down = walk(lambda p: RM3(p, lr=1.0))
    up = walk(lambda p: RM3(p, lr=1.0, maximize=True))
    start = walk(lambda p: RM3(p, lr=1.0), steps=0)
    for a, b, c in zip(down, up, start, strict=True):
        torch.testing.assert_close(c - a, b - c)


def test_chunks_bound_what_is_worked_on_at_once():
    column = [torch.zeros(n) for n in (3, 4, 9, 1, 1)]
    chunks = list(kernels._chunks([column, []], 8))
    assert [[len(t) for t in first] for first, _ in chunks] == [[3, 4], [9], [1, 1]]
    assert all(optional == [] for _, optional in chunks)


def test_only_large_models_are_compiled(monkeypatch):
    compiled = []
    monkeypatch.setattr(kernels, "_compiled", lambda kernel: compiled.append(kernel) or kernel)

    def steps(size, **options):
        parameter = nn.Parameter(torch.zeros(size))
        optimizer = RM3([parameter], lr=1.0, **options)
        for _ in range(3):
            parameter.grad = torch.ones(size)
            optimizer.step()
        found = len(compiled)
        compiled.clear()
        return found

    assert steps(999_999) == 0
    assert steps(1_000_000) == 1
    assert steps(1_000_000, foreach=True) == steps(1_000_000, fused=False) == 0
    assert steps(8, fused=True) == 1


def walk_of(size):
    parameter = nn.Parameter(torch.zeros(size))
    optimizer = RM3([parameter], lr=1.0, fused=True)
    for gradient in (1.0, 2.0, 3.0):
        parameter.grad = torch.full((size,), gradient)
        optimizer.step()
    return parameter.tolist()


def test_many_models_in_a_process_are_each_compiled(monkeypatch):
    monkeypatch.setattr(kernels, "_failed", set())
    with torch._dynamo.config.patch(recompile_limit=1):
        for size in (91, 92):
            assert walk_of(size) == [-2] * size
    assert not kernels._failed


def test_past_the_most_it_goes_on_without_compiling(monkeypatch, capsys):
    walk_of(91)
    monkeypatch.setattr(kernels, "_failed", set())
    monkeypatch.setattr(kernels, "_COMPILED_AT_MOST", 1)
    kernels._tell_once.cache_clear()
    with torch._dynamo.config.patch(recompile_limit=1):
        for size in (93, 94):
            assert walk_of(size) == [-2] * size
    assert kernels._failed
    assert capsys.readouterr().err.count("going on with the slower foreach step") == 1


def test_a_cache_that_cannot_be_written_is_no_compiler(monkeypatch, capsys):
    def compiled(kernel):
        raise OSError("Read-only file system")

    monkeypatch.setattr(kernels, "_failed", set())
    monkeypatch.setattr(kernels, "_compiled", compiled)
    assert walk_of(8) == [-2] * 8
    assert "can't be compiled (Read-only file system); going on" in capsys.readouterr().err


def test_it_says_before_it_compiles_and_once(capsys):
    for cached in (kernels._say_once, kernels._compiled):
        cached.cache_clear()
    for size in (95, 96):
        walk_of(size)
    assert capsys.readouterr().err.count("compiling the optimizer's step") == 1


def num_compiled() -> int:
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


@pytest.mark.parametrize("lr", [1.0, torch.tensor([1.0]), torch.tensor(1.0, dtype=torch.float64)], ids=repr)
def test_schedules_compile_nothing_anew(lr):
    parameter = nn.Parameter(torch.zeros(97))
    optimizer = RM3([parameter], lr=lr, weight_decay=0.1, momentum=0.5, fused=True)
    found = []
    for step in range(1, 8):
        parameter.grad = torch.ones(97)
        optimizer.step()
        optimizer.param_groups[0].update(momentum=0.9 / step, weight_decay=0.1 / step)
        if not torch.is_tensor(lr):
            optimizer.param_groups[0]["lr"] = 1.0 / step
        found.append(num_compiled())
    assert found[3] == found[-1]
    assert parameter.max() < -1
    assert not kernels._failed


@given(
    values=arrays(
        np.float32, (3, 32), elements=st.sampled_from([-1.5, -0.0, 0.0, 1.0, 2.5, np.inf, -np.inf, np.nan])
    ),
    name=st.sampled_from(["rm3", "m3"]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_fused_medians_are_torchs(values, name, dtype):
    gradients = torch.from_numpy(values).to(dtype)
    parameter = nn.Parameter(torch.zeros(32, dtype=dtype))
    optimizer = {"rm3": RM3, "m3": M3}[name]([parameter], lr=1.0, fused=True)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step() if name == "rm3" else optimizer.collect()
    if name == "m3":
        optimizer.step()
    torch.testing.assert_close(
        -parameter.detach(), gradients.median(0).values, rtol=0, atol=0, equal_nan=True
    )
    assert not kernels._failed


def test_two_ways_at_once_are_refused():
    with pytest.raises(ValueError, match="choose one"):
        RM3([nn.Parameter(torch.zeros(1))], lr=1.0, foreach=True, fused=True)


def test_without_a_compiler_it_says_so_once_and_goes_on(tmp_path):
    program = """
import torch
from hardness.optim import M3, RM3
parameter = torch.nn.Parameter(torch.zeros(4))
for optimizer in (RM3([parameter], lr=1.0, fused=True), M3([parameter], lr=1.0, fused=True)):
    for _ in range(4):
        for _ in range(3):
            parameter.grad = torch.ones(4)
            if hasattr(optimizer, "collect"):
                optimizer.collect()
        optimizer.step()
print(parameter.tolist())
"""
    nowhere = {"CXX": "/no/compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "PATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **nowhere}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[-6.0, -6.0, -6.0, -6.0]\n"
    told = [line for line in done.stderr.splitlines() if line.startswith("warning")]
    assert len(told) == 1, done.stderr
    assert "can't be compiled" in told[0]
    assert "going on with the slower foreach step" in told[0]


def test_a_gradient_scaler_and_clipping():
    # Scaled losses, an overflow in the middle that is skipped, and the whole direction clipped: as by hand.
    for kind in ("rm3", "m3", "rm3+sgd", "m3+sgd"):
        parameter, twin = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
        make = {"rm3": RM3, "m3": M3}[kind[:-4] if "+" in kind else kind]
        scaled, plain = (
            robust(torch.optim.SGD([p], lr=1.0, weight_decay=0.1), kind[:-4])
            if "+" in kind
            else make([p], lr=1.0, weight_decay=0.1)
            for p in (parameter, twin)
        )
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
        generator = torch.Generator().manual_seed(0)
        for step in range(6):
            is_bad = step == 3
            scaled.zero_grad()
            for _ in range(3 if hasattr(scaled, "collect") else 1):
                gradient = torch.randn(3, generator=generator)
                seen = torch.full((3,), torch.inf) if is_bad else gradient
                scaler.scale((parameter * seen).sum()).backward()
                if not is_bad:
                    twin.grad = gradient.clone()
                for optimizer in [scaled, *([] if is_bad else [plain])]:
                    if hasattr(optimizer, "collect"):
                        optimizer.collect()
            if hasattr(scaled, "collect"):
                scaled.direction_to_grad()
                if not is_bad:
                    plain.direction_to_grad()
            scaler.unscale_(scaled)
            norm = nn.utils.clip_grad_norm_([parameter], 1.0)
            assert norm.isfinite() != is_bad
            scaler.step(scaled)
            scaler.update()
            if not is_bad:
                nn.utils.clip_grad_norm_([twin], 1.0)
                plain.step()
        assert scaler.get_scale() == 4.0
        torch.testing.assert_close(parameter, twin)
        assert (parameter - 1).abs().max() > 0.5
