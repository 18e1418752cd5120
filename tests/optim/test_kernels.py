"""Single-tensor, foreach and fused steps agree; which of them runs; what happens without a compiler.

``eager`` replaces the compiler (inductor, seconds per kernel) behind dynamo: tracing, guards, recompilation
and messages are the same. One test per optimizer class, and those of rounding and nan, really compile.
"""

import functools
import itertools
import os

import pytest
import torch
from torch import nn

from hardness.optim import A3, M3, RA3, RM3, kernels, robust
from tests import processes

SHAPES = ((343,), (2, 3, 4, 4), ())
SPECIAL = [-1.5, -0.0, 0.0, 1.0, torch.inf, -torch.inf, torch.nan]
CLASSES = (RM3, RA3, M3, A3)


@pytest.fixture
def eager(monkeypatch):
    """Trace kernels with dynamo, but run them without compiling to machine code."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    monkeypatch.setattr(kernels, "_failed", set())
    torch._dynamo.reset()
    kernels._compiled.cache_clear()
    yield
    kernels._compiled.cache_clear()
    torch._dynamo.reset()


def walk(build, dtype=torch.float32, steps=5, device="cpu", special=False) -> list[torch.Tensor]:
    """The parameters after some steps, with a learning rate that changes.

    special: the first parameter gets as its first three gradients all combinations of special values.
    """
    generator = torch.Generator().manual_seed(0)

    def draw(shape):
        return torch.randn(shape, generator=generator).to(device, dtype)

    parameters = [nn.Parameter(draw(shape)) for shape in SHAPES]
    # Another memory layout.
    parameters[1] = nn.Parameter(parameters[1].detach().to(memory_format=torch.channels_last))
    combinations = torch.tensor(list(itertools.product(SPECIAL, repeat=3)), dtype=dtype).unbind(1)
    replaced = iter(combinations if special else ())
    optimizer = build(parameters)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1.0 / (1 + step)
        for _ in range(3 if hasattr(optimizer, "collect") else 1):
            for parameter in parameters:
                parameter.grad = draw(parameter.shape)
            parameters[0].grad = next(replaced, parameters[0].grad)
            if hasattr(optimizer, "collect"):
                optimizer.collect()
        optimizer.step()
    return [parameter.detach() for parameter in parameters]


ALL_OPTIONS = {"weight_decay": 0.1, "momentum": 0.9, "maximize": True}


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("optimizer_class", CLASSES)
@pytest.mark.parametrize("options", [{}, ALL_OPTIONS], ids=["bare", "all"])
def test_every_way_gives_the_same_bits_in_float32(optimizer_class, options):
    ways = ({"foreach": False}, {"foreach": True}, {"fused": True}, {"fused": True, "capturable": True}, {})
    plain, *others = (walk(lambda p, way=way: optimizer_class(p, lr=1.0, **options, **way)) for way in ways)
    assert not kernels._failed
    for other in others:
        for a, b in zip(plain, other, strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("optimizer_class", CLASSES)
def test_compiled_it_gives_the_same_bits_in_float32(optimizer_class):
    """Also for nan, infinities and signed zeros."""
    plain, fused = (
        walk(lambda p, fused=fused: optimizer_class(p, lr=1.0, fused=fused, **ALL_OPTIONS), special=True)
        for fused in (False, True)
    )
    assert not kernels._failed
    # Compilers of older torch (2.8) multiply by a third instead of dividing by three: one more rounding in
    # each of five steps, of numbers below 16.
    tolerance = 0 if optimizer_class in (RM3, M3) else 5 * 16 * 2**-24
    torch.testing.assert_close(fused, plain, rtol=0, atol=tolerance, equal_nan=True)
    assert 0 < plain[0].isnan().sum() < len(plain[0])


@pytest.mark.parametrize(
    ("optimizer_class", "dtype"),
    [
        (RM3, torch.bfloat16),
        pytest.param(RA3, torch.float16, marks=pytest.mark.slow),
        pytest.param(M3, torch.float16, marks=pytest.mark.slow),
    ],
)
def test_fused_is_within_roundings_in_half_precision(optimizer_class, dtype):
    # Compiled, a chain of operations is rounded once, at its end; otherwise after each operation: in five
    # steps a few roundings of numbers below 4.
    def build(fused):
        return lambda parameters: optimizer_class(parameters, lr=1.0, fused=fused)

    tolerance = 5 * 2 * torch.finfo(dtype).eps
    start = walk(build(False), dtype, steps=0)
    plain, fused = walk(build(False), dtype, special=True), walk(build(True), dtype, special=True)
    assert not kernels._failed
    torch.testing.assert_close(fused, plain, rtol=0, atol=tolerance, equal_nan=True)
    assert (plain[1] - start[1]).abs().max() > 4 * tolerance


@pytest.mark.parametrize("way", [{"foreach": False}, {"foreach": True}], ids=str)
@pytest.mark.parametrize("name", ["rm3", "m3", "rm3+sgd"])
def test_nan_propagates_and_a_single_infinity_is_ignored(name, way):
    """One coordinate per order of 1, 2 and a value that is not finite."""
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


def test_maximize_negates_the_gradient():
    down = walk(lambda p: RM3(p, lr=1.0))
    up = walk(lambda p: RM3(p, lr=1.0, maximize=True))
    start = walk(lambda p: RM3(p, lr=1.0), steps=0)
    for a, b, c in zip(down, up, start, strict=True):
        torch.testing.assert_close(c - a, b - c)


def test_chunks_bound_the_number_of_elements():
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


@pytest.mark.usefixtures("eager")
def test_each_of_many_models_in_a_process_is_compiled():
    with torch._dynamo.config.patch(recompile_limit=1):
        for size in (91, 92):
            assert walk_of(size) == [-2] * size
    assert not kernels._failed


@pytest.mark.usefixtures("eager")
def test_above_the_limit_it_continues_without_compiling(monkeypatch, capsys):
    walk_of(91)
    monkeypatch.setattr(kernels, "_COMPILED_AT_MOST", 1)
    kernels._warn_once.cache_clear()
    with torch._dynamo.config.patch(recompile_limit=1):
        for size in (93, 94):
            assert walk_of(size) == [-2] * size
    assert kernels._failed
    assert capsys.readouterr().err.count("foreach") == 1


def test_a_cache_that_is_not_writable_is_treated_as_no_compiler(monkeypatch, capsys):
    def compiled(kernel):
        raise OSError("Read-only file system")

    monkeypatch.setattr(kernels, "_failed", set())
    monkeypatch.setattr(kernels, "_compiled", compiled)
    assert walk_of(8) == [-2] * 8
    assert "(Read-only file system)" in capsys.readouterr().err


@pytest.mark.usefixtures("eager")
def test_it_prints_once_that_it_compiles(capsys):
    kernels._remark_once.cache_clear()
    for size in (95, 96):
        walk_of(size)
    assert capsys.readouterr().err.count("compiling") == 1


def num_compiled() -> int:
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("lr", [1.0, torch.tensor([1.0]), torch.tensor(1.0, dtype=torch.float64)], ids=repr)
def test_schedules_do_not_recompile(lr):
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


def test_foreach_and_fused_exclude_each_other():
    with pytest.raises(ValueError, match="foreach and fused"):
        RM3([nn.Parameter(torch.zeros(1))], lr=1.0, foreach=True, fused=True)


def without_a_compiler(folder: str) -> None:
    """Step in a process that finds no compiler and no compiled kernels."""
    from torch._inductor import config

    config.cpp.cxx = ("/no/compiler",)
    os.environ.update(CXX="/no/compiler", TORCHINDUCTOR_CACHE_DIR=folder, PATH=folder)
    parameter = nn.Parameter(torch.zeros(4))
    for optimizer in (RM3([parameter], lr=1.0, fused=True), M3([parameter], lr=1.0, fused=True)):
        for _ in range(4):
            for _ in range(3):
                parameter.grad = torch.ones(4)
                if hasattr(optimizer, "collect"):
                    optimizer.collect()
            optimizer.step()
    print(parameter.tolist())


def test_without_a_compiler_it_warns_once_and_continues(tmp_path):
    target = functools.partial(without_a_compiler, str(tmp_path))
    answer = processes.Started(target, tmp_path, os.environ).wait()
    assert (answer.status, answer.out) == (0, "[-6.0, -6.0, -6.0, -6.0]\n"), answer
    (warning,) = [line for line in answer.err.splitlines() if line.startswith("warning")]
    assert "cannot compile" in warning
    assert "foreach" in warning


def test_a_gradient_scaler_and_clipping():
    # Scaled losses, a step skipped after an overflow, and the direction clipped: same as without scaling.
    for kind in ("rm3", "m3", "rm3+sgd", "m3+sgd"):
        parameter, copy = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
        make = {"rm3": RM3, "m3": M3}[kind[:-4] if "+" in kind else kind]
        scaled, plain = (
            robust(torch.optim.SGD([p], lr=1.0, weight_decay=0.1), kind[:-4])
            if "+" in kind
            else make([p], lr=1.0, weight_decay=0.1)
            for p in (parameter, copy)
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
                    copy.grad = gradient.clone()
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
                nn.utils.clip_grad_norm_([copy], 1.0)
                plain.step()
        assert scaler.get_scale() == 4.0
        torch.testing.assert_close(parameter, copy)
        assert (parameter - 1).abs().max() > 0.5
