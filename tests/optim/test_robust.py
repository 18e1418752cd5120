import copy
import pickle

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

from hardness import datasets, models, optim
from hardness.config import Data
from hardness.optim import A3, M3, RA3, RM3, WinsorizedSGD, kernels, robust
from hardness.training.step import train_step


def draws(number: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(number, 4, generator=torch.Generator().manual_seed(seed))


def feed(optimizer, parameter, gradients, already=0) -> None:
    """One step per gradient, or per three with collect(); ``already`` gradients were fed before."""
    for number, gradient in enumerate(gradients, start=already + 1):
        parameter.grad = gradient.clone().view_as(parameter)
        if hasattr(optimizer, "collect"):
            optimizer.collect()
            if number % 3:
                continue
        optimizer.step()


@pytest.mark.parametrize(("method", "own"), [("rm3", RM3), ("ra3", RA3), ("m3", M3), ("a3", A3)])
def test_sgd_made_robust_is_our_own(method, own):
    parameter, parallel = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4))
    feed(robust(torch.optim.SGD([parameter], lr=0.1), method), parameter, draws(9))
    feed(own([parallel], lr=0.1), parallel, draws(9))
    torch.testing.assert_close(parameter, parallel)


@pytest.mark.parametrize("method", ["rm3", "ra3"])
def test_capturable_moves_contents_and_gives_the_same(method):
    parameter, parallel = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4))
    feed(robust(torch.optim.SGD([parameter], lr=0.1), method), parameter, draws(9))
    feed(robust(torch.optim.SGD([parallel], lr=0.1), method, capturable=True), parallel, draws(9))
    assert torch.equal(parameter, parallel)


BASES = ["AdamW", "NAdam", "Adagrad", "Muon"]


@pytest.mark.parametrize("base", [getattr(torch.optim, name) for name in BASES if hasattr(torch.optim, name)])
@pytest.mark.parametrize("method", ["rm3", "m3"])
def test_the_base_sees_the_median_and_nothing_before(base, method):
    # Two by two: Muon takes matrices only.
    parameter, parallel = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    gradients = draws(9)
    feed(robust(base([parameter], lr=0.1), method), parameter, gradients)
    starts = range(0, 9, 3) if method == "m3" else range(7)
    medians = [gradients[start : start + 3].median(0).values for start in starts]
    feed(base([parallel], lr=0.1), parallel, medians)
    assert torch.equal(parameter, parallel)


def test_gradients_become_the_directions_and_early_ones_are_restored():
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = robust(torch.optim.SGD([parameter], lr=1.0))
    for gradient, left in ((5.0, 5.0), (1.0, 1.0), (2.0, 2.0), (9.0, 2.0)):
        parameter.grad = torch.tensor([gradient])
        optimizer.step()
        assert parameter.grad.item() == left
    assert parameter.item() == -4


@pytest.mark.parametrize("method", ["rm3", "ra3", "m3", "a3"])
@pytest.mark.parametrize("saved_after", [0, 1, 2, 3, 4, 5])
def test_the_state_continues_bit_for_bit(method, saved_after, tmp_path):
    parameter, parallel = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4))
    optimizer = robust(torch.optim.AdamW([parameter], lr=0.1), method)
    gradients = draws(9)
    feed(optimizer, parameter, gradients[:saved_after])
    torch.save([optimizer.state_dict(), parameter.detach()], tmp_path / "state")
    restored = robust(torch.optim.AdamW([parallel], lr=9.0), method)
    feed(restored, parallel, draws(3, seed=1))
    state, value = torch.load(tmp_path / "state", weights_only=True)
    restored.load_state_dict(state)
    parallel.data.copy_(value)
    for one, its in ((optimizer, parameter), (restored, parallel)):
        feed(one, its, gradients[saved_after:], already=saved_after)
    assert torch.equal(parameter, parallel)
    assert not torch.equal(parameter, torch.ones(4))


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning")
@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated:UserWarning")
@pytest.mark.parametrize("name", ["rm3", "m3", "rm3+adamw", "m3+adamw", "m3+sgd"])
@pytest.mark.parametrize("saved_after", range(6))
def test_a_distributed_checkpoint_continues_bit_for_bit(name, saved_after, tmp_path):
    def start():
        model = nn.Linear(4, 1, bias=False)
        nn.init.ones_(model.weight)
        return model, optim.build(name, model.parameters(), lr=0.1)

    (model, optimizer), (parallel, restored) = start(), start()
    gradients = draws(9)
    feed(optimizer, model.weight, gradients[:saved_after])
    optimizer.zero_grad()
    parts = ("model", "optimizer")
    dcp.save(dict(zip(parts, get_state_dict(model, optimizer), strict=True)), checkpoint_id=tmp_path / "c")
    states = dict(zip(parts, get_state_dict(parallel, restored), strict=True))
    dcp.load(states, checkpoint_id=tmp_path / "c")
    set_state_dict(parallel, restored, model_state_dict=states["model"], optim_state_dict=states["optimizer"])
    for one, its in ((optimizer, model.weight), (restored, parallel.weight)):
        feed(one, its, gradients[saved_after:], already=saved_after)
    assert torch.equal(model.weight, parallel.weight)
    assert not torch.equal(model.weight, torch.ones(1, 4))


@pytest.mark.parametrize("method", ["rm3", "m3"])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_a_copy_is_as_robust(method, copied):
    parameter = nn.Parameter(torch.ones(4))
    optimizer = robust(torch.optim.AdamW([parameter], lr=0.1), method)
    feed(optimizer, parameter, draws(5))
    optimizer.zero_grad()
    copy_of_parameter, copy_of_optimizer = copied((parameter, optimizer))
    for one, its in ((optimizer, parameter), (copy_of_optimizer, copy_of_parameter)):
        feed(one, its, draws(4, seed=1), already=5)
    assert copy_of_parameter is not parameter
    assert torch.equal(copy_of_parameter, parameter)


@pytest.mark.parametrize("method", ["rm3", "m3"])
def test_a_warm_up_from_zero(method):
    parameter = nn.Parameter(torch.zeros(4))
    optimizer = robust(torch.optim.SGD([parameter], lr=1.0), method)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step)
    for _ in range(4):
        for _ in range(3 if method == "m3" else 1):
            parameter.grad = torch.ones(4)
            if method == "m3":
                optimizer.collect()
        optimizer.step()
        schedule.step()
    # Rates 0, 1, 2, 3; rm3 begins at its third gradient.
    assert parameter.tolist() == [-6 if method == "m3" else -5] * 4


def test_a_base_that_calls_its_parent_and_one_that_fails():
    class Child(torch.optim.SGD):
        def step(self, closure=None):
            if self.param_groups[0]["lr"] > 5:
                raise ArithmeticError
            return super().step(closure)

    parameter, parallel = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4))
    optimizer = robust(Child([parameter], lr=0.1))
    feed(optimizer, parameter, draws(7))
    feed(robust(torch.optim.SGD([parallel], lr=0.1)), parallel, draws(7))
    assert torch.equal(parameter, parallel)

    fresh = robust(Child([parameter], lr=9.0))
    parameter.grad = torch.ones(4)
    with pytest.raises(ArithmeticError):
        fresh.step()
    assert parameter.grad.tolist() == [1] * 4


@pytest.mark.parametrize("method", ["rm3", "m3"])
def test_hooks_are_called_once(method):
    # torch wraps the step of the parent class when the first instance is created.
    robust(torch.optim.SGD([nn.Parameter(torch.ones(4))], lr=0.1))
    parameter, called = nn.Parameter(torch.ones(4)), []
    optimizer = robust(torch.optim.AdamW([parameter], lr=0.1), method)
    for name in ("step_pre", "step_post", "state_dict_pre", "state_dict_post", "load_state_dict_pre"):
        getattr(optimizer, f"register_{name}_hook")(lambda *_, name=name: called.append(name))
    optimizer.register_load_state_dict_post_hook(lambda *_: called.append("load_state_dict_post"))
    feed(optimizer, parameter, draws(3 if method == "m3" else 1))
    assert called == ["step_pre", "step_post"]
    optimizer.load_state_dict(optimizer.state_dict())
    assert called[2:] == ["state_dict_pre", "state_dict_post", "load_state_dict_pre", "load_state_dict_post"]


def test_a_state_that_does_not_fit_changes_nothing():
    parameter, parallel = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4))
    optimizer = robust(torch.optim.AdamW([parameter], lr=0.1))
    feed(optimizer, parameter, draws(4))
    before = copy.deepcopy(optimizer.state_dict())
    longer = robust(torch.optim.AdamW([{"params": [parallel]}, {"params": [nn.Parameter(torch.ones(4))]}]))
    feed(longer, parallel, draws(1))
    alone = RM3([parallel], lr=0.1)
    feed(alone, parallel, draws(3))
    for other, message in ((longer, "number of parameter groups"), (alone, "but of M3, A3, RM3 or RA3")):
        with pytest.raises(ValueError, match=message):
            optimizer.load_state_dict(other.state_dict())
        after = optimizer.state_dict()
        assert after["state"][0]["robust_num_seen"] == 2
        for name, value in before["state"][0].items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(after["state"][0][name])), name


def test_repr():
    optimizer = robust(torch.optim.AdamW([nn.Parameter(torch.ones(4))]), "m3")
    assert repr(optimizer).startswith("M3 on AdamW (")


def test_a_closure_is_called_once():
    parameter, calls = nn.Parameter(torch.ones(4)), []
    optimizer = robust(torch.optim.AdamW([parameter], lr=0.1))

    def closure():
        optimizer.zero_grad()
        loss = parameter.square().sum()
        loss.backward()
        calls.append(loss)
        return loss

    for step in range(3):
        assert optimizer.step(closure) is calls[step]
    assert len(calls) == 3
    assert (parameter < 1).all()


@pytest.mark.parametrize(("options", "compiles"), [({"fused": True}, 1), ({"foreach": True}, 0), ({}, 0)])
def test_fused_and_foreach_apply_to_the_statistic(monkeypatch, options, compiles):
    compiled = []
    monkeypatch.setattr(kernels, "_compiled", lambda kernel: compiled.append(kernel) or kernel)
    parameter = nn.Parameter(torch.ones(4))
    feed(robust(torch.optim.SGD([parameter], lr=0.1), **options), parameter, draws(3))
    assert len(compiled) == compiles


def test_the_base_never_sees_our_state_and_a_plain_state_starts_again():
    parameter = nn.Parameter(torch.ones(4))
    optimizer = robust(torch.optim.AdamW([parameter], lr=0.1))
    feed(optimizer, parameter, draws(5))
    before = copy.deepcopy(optimizer.state_dict())
    assert set(optimizer.state[parameter]) == {"step", "exp_avg", "exp_avg_sq"}
    assert {"robust_older", "robust_previous", "robust_num_seen"} < set(before["state"][0])

    plain = torch.optim.AdamW([nn.Parameter(torch.ones(4))], lr=0.1)
    feed(plain, plain.param_groups[0]["params"][0], draws(2))
    optimizer.load_state_dict(plain.state_dict())
    assert set(optimizer.state_dict()["state"][0]) == {"step", "exp_avg", "exp_avg_sq"}
    optimizer.load_state_dict(before)
    assert optimizer.state_dict()["state"][0]["robust_num_seen"] == 2

    with pytest.raises(ValueError, match="not the state of M3"):
        robust(torch.optim.AdamW([nn.Parameter(torch.ones(4))], lr=0.1), "m3").load_state_dict(before)


def test_the_state_goes_to_another_device_or_dtype():
    for build in (lambda p: RM3(p, lr=0.1), lambda p: robust(torch.optim.AdamW(p, lr=0.1))):
        parameter = nn.Parameter(torch.ones(4, dtype=torch.float64))
        optimizer = build([parameter])
        feed(optimizer, parameter, draws(2).double())
        parallel = nn.Parameter(torch.ones(4))
        restored = build([parallel])
        restored.load_state_dict(optimizer.state_dict())
        for one, its, gradient in (
            (optimizer, parameter, draws(1).double()),
            (restored, parallel, draws(1)),
        ):
            feed(one, its, gradient)
        torch.testing.assert_close(parallel.double(), parameter)
        assert not torch.equal(parallel, torch.ones(4))


def test_parameters_added_later_are_collected():
    parameter, later = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimizer = robust(torch.optim.SGD([parameter], lr=1.0), "m3")
    optimizer.add_param_group({"params": [later]})
    for _ in range(2):
        for gradient in (1.0, 10.0, 4.0):
            parameter.grad, later.grad = torch.tensor([gradient]), torch.tensor([gradient])
            optimizer.collect()
            assert later.grad is None
        optimizer.step()
    assert (parameter.item(), later.item()) == (-8, -8)


def test_parameters_added_later_and_a_schedule():
    parameter, later = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimizer = robust(torch.optim.SGD([parameter], lr=1.0))
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
    for step in range(6):
        if step == 2:
            optimizer.add_param_group({"params": [later], "lr": 0.5})
        parameter.grad = torch.ones(1)
        later.grad = torch.ones(1) if step >= 2 else None
        optimizer.step()
        schedule.step()
    # Rates 1, 1, .5, .5, .25, .25; the second from its own third gradient on.
    assert (parameter.item(), later.item()) == (-1.5, -0.5)


def test_unsupported_methods_bases_and_steps():
    parameter = nn.Parameter(torch.zeros(1))
    with pytest.raises(ValueError, match="must be one of m3, a3, rm3, ra3, not 'median'"):
        robust(torch.optim.SGD([parameter], lr=1.0), "median")
    for other in (
        robust(torch.optim.SGD([parameter], lr=1.0)),
        RM3([parameter], lr=1.0),
        WinsorizedSGD([parameter], lr=1.0),
        torch.optim.LBFGS([parameter]),
    ):
        with pytest.raises(ValueError, match="cannot be made robust"):
            robust(other)
    optimizer = robust(torch.optim.SGD([parameter], lr=1.0), "m3")
    with pytest.raises(RuntimeError, match="closure"):
        optimizer.step(lambda: 0)
    with pytest.raises(RuntimeError, match="M3 needs 3 collects before a step, not 0"):
        optimizer.step()


def test_it_warns_once_that_the_base_applies_its_momentum(capsys):
    robust.__globals__["_warn_once"].cache_clear()
    for _ in range(2):
        robust(torch.optim.AdamW([nn.Parameter(torch.zeros(1))]), "ra3")
    assert capsys.readouterr().err.count("AdamW applies its momentum") == 1


@pytest.mark.parametrize("name", ["rm3+adamw", "m3+adamw"])
def test_robust_adamw_learns_digits(name):
    data = datasets.load(Data(), model="mlp")
    model = models.build("mlp", data, seed=0)
    optimizer = optim.build(name, model.parameters(), lr=0.003)
    generator = torch.Generator().manual_seed(0)
    for _ in range(120):
        batch = torch.randint(len(data.train), (96,), generator=generator).tolist()
        images, labels, _ = data.train.__getitems__(batch)
        train_step(model, optimizer, images, labels)
    images, labels, _ = data.validation.__getitems__(range(len(data.validation)))
    assert (model(images).argmax(1) == labels).float().mean() > 0.9
