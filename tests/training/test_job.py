import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hardness import Recorder, datasets, models, optim
from hardness.config import Data
from hardness.datasets import Loader, Shuffled
from hardness.dynamics.scores import scores
from hardness.resources import Resources
from hardness.training.job import StartedJob, learning_rate
from hardness.training.measure import Group, measure, predict
from hardness.training.step import StepNorm, train_step
from tests.conftest import refused
from tests.jobs import job

GOLDEN = Path(__file__).parents[1] / "assets" / "golden.json"


@pytest.fixture(scope="module")
def digits():
    return datasets.load(Data(), model="mlp")


def start(digits, **changes) -> StartedJob:
    return job(digits, **({"epochs": 2, "batch_size": 128, "optimizer": "sgd", "lr": 0.1} | changes)).start()


def ten_steps(digits, tmp_path) -> dict[str, list]:
    """Losses of ten steps of SGD with momentum, and first-learned epochs, recorded every five steps."""
    model = models.build("mlp", digits, seed=0)
    optimizer = optim.build("sgdm", model.parameters(), lr=0.05)
    order = Shuffled(digits.train.ids, 288, seed=0)
    losses = []
    with Recorder(tmp_path / "golden", len(digits.train)) as recorder:
        for epoch in (1, 2):
            order.epoch = epoch
            for images, labels, _ in Loader(digits.train, order):
                model.train()
                losses.append(train_step(model, optimizer, images, labels)[0].item())
            for batch in predict(model, digits.train, digits.train.ids, Resources()):
                recorder.update(*batch)
            recorder.end_epoch()
    first = scores(tmp_path / "golden")["first_learned_epoch"].fillna(0)
    return {"losses": losses, "first_learned_epoch": first.astype(int).tolist()}


def test_ten_steps_reproduce_the_golden_run(digits, tmp_path):
    """To update it after an intended change: python -m tests.training.test_job"""
    golden, found = json.loads(GOLDEN.read_text()), ten_steps(digits, tmp_path)
    assert len(found["losses"]) == 10
    assert found["losses"] == pytest.approx(golden["losses"], rel=1e-4)
    # Rounding on another processor may change the prediction of an example.
    differ = np.not_equal(found["first_learned_epoch"], golden["first_learned_epoch"]).sum()
    assert differ <= 2


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("constant", {0: 1, 0.5: 1, 0.99: 1}),
        ("step", {0: 1, 0.33: 1, 0.34: 0.1, 0.67: 0.01}),
        ("cosine", {0: 1, 0.5: 0.5, 1: 0}),
    ],
)
def test_schedules(schedule, rates):
    for progress, rate in rates.items():
        assert learning_rate(1.0, schedule, progress) == pytest.approx(rate)


def test_an_epoch_trains_on_every_example_and_yields_its_log(digits):
    first, second = start(digits).epochs()
    assert (first.epoch, second.epoch) == (1, 2)
    assert second.train_loss < first.train_loss
    assert second.train_top1 > first.train_top1
    assert first.step_norm > 0
    assert first.images_per_second == pytest.approx(1437 / first.seconds)


def test_train_records_come_from_the_training_pass(digits, tmp_path):
    recorder = Recorder(tmp_path, len(digits.train))
    log = next(start(digits, optimizer="m3").epochs(recorder=recorder))
    recorded = recorder.end_epoch()
    assert recorded.num_examples == 1437
    assert recorded.accuracy == pytest.approx(log.train_top1)
    assert recorded.loss == pytest.approx(log.train_loss, rel=1e-5)


def test_the_global_generator_is_restored(digits):
    state = torch.get_rng_state()
    for _ in start(digits).epochs():
        pass
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("name", ["sgdm", "rm3", "m3", "rm3+adamw", "m3+sgdm", "winsorized"])
def test_resuming_from_a_checkpoint_is_bit_for_bit(digits, tmp_path, name):
    settings = {"optimizer": name, "epochs": 3, "schedule": "cosine", "ids": digits.train.ids[:300]}
    training, again = start(digits, **settings), start(digits, **settings)
    for log in training.epochs():
        if log.epoch == 1:
            training.save(tmp_path / "last.pt", log.epoch)
    assert again.load(tmp_path / "none.pt") == 0
    assert again.load(tmp_path / "last.pt") == 1
    assert [log.epoch for log in again.epochs(after=1)] == [2, 3]
    for one, other in zip(training.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_loss_that_is_not_finite_is_an_error_with_epoch_and_step(digits):
    with refused("training-diverged", epoch=1, step=2):
        list(start(digits, lr=1e30).epochs())


@pytest.mark.parametrize("name", ["m3", "a3+adamw", "winsorized"])
def test_some_optimizers_need_three_examples_per_batch(digits, name):
    with refused("batch-too-small", least=3, smallest=2):
        next(start(digits, optimizer=name, batch_size=2).epochs())


def test_the_step_norm_is_the_change_over_the_rate():
    model = torch.nn.Linear(2, 1, bias=False)
    norm = StepNorm(model)
    with norm.measured(0.5), torch.no_grad():
        model.weight.add_(torch.tensor([[3.0, 4.0]]))
    assert norm.mean() == pytest.approx(10)


def test_measuring_against_a_plain_reference(digits):
    model = models.build("mlp", digits, seed=0)
    noisy = digits.train.with_labels((digits.train.clean_labels + 1) % 10)
    some, others = np.arange(0, 1437, 3), np.arange(5)
    rows = measure(
        model,
        [
            Group("a", noisy, some),
            Group("b", noisy, others, against_clean=True),
            Group("v", digits.validation, digits.validation.ids),
        ],
        Resources(),
    )
    for row, images, ids, labels in (
        (rows[0], noisy, some, noisy.given_labels),
        (rows[1], noisy, others, noisy.clean_labels),
        (rows[2], digits.validation, digits.validation.ids, digits.validation.clean_labels),
    ):
        logits, labels = model(images.inputs[ids]).detach(), labels[torch.tensor(ids)]
        ranks = (logits > logits.gather(1, labels[:, None])).sum(1)
        assert row["num_examples"] == len(ids)
        assert row["loss"] == pytest.approx(
            torch.nn.functional.cross_entropy(logits, labels).item(), rel=1e-5
        )
        assert row["top1"] == pytest.approx((ranks == 0).double().mean().item())
        assert row["top5"] == pytest.approx((ranks < 5).double().mean().item())


if __name__ == "__main__":
    import tempfile

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        golden = ten_steps(datasets.load(Data(), model="mlp"), Path(folder))
    GOLDEN.write_text(json.dumps(golden) + "\n")


@pytest.mark.slow
def test_dropout_depends_on_neither_workers_nor_resuming(digits, tmp_path):
    class Reread:
        """Pixels that are not in memory, so that workers load them."""

        needs_decoding = True

        def __getitem__(self, ids):
            return digits.train.inputs[ids]

    from dataclasses import replace

    images = replace(digits.train, inputs=Reread())

    def train(workers, after=0, model=None):
        training = job(
            digits, resources=Resources(workers=workers), examples=images, epochs=2, batch_size=128, lr=0.1
        ).start()
        model = model or training.model.append(torch.nn.Dropout(0.5))
        optimizer = optim.build("sgd", model.parameters(), lr=0.1)
        for log in StartedJob(training.job, model, optimizer).epochs(after):
            yield log.train_loss, model

    here = [loss for loss, _ in train(0)]
    assert here == [loss for loss, _ in train(1)]
    _, model = next(train(1))
    assert here[1] == next(train(1, after=1, model=model))[0]
