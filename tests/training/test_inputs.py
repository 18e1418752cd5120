"""Inputs that are several tensors: digits in two halves, which must give the results of whole digits."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from hardness import Recorder, datasets, scores
from hardness.config import Data
from hardness.datasets.images import ImageAdapter
from hardness.resources import Resources
from hardness.training.measure import Group, measure, measure_coherence, predict
from tests.jobs import job


class Halves:
    """A store of {"top": (B, 1, 4, 8), "bottom": (B, 1, 4, 8)}."""

    needs_decoding = False

    def __init__(self, images):
        self.images = images

    def __getitem__(self, ids):
        top, bottom = self.images[ids].clone().chunk(2, dim=2)
        return {"top": top, "bottom": bottom}


class Joined(nn.Sequential):
    def forward(self, inputs):
        return super().forward(torch.cat([inputs["top"], inputs["bottom"]], 2))


class HalvesAdapter(ImageAdapter):
    def network(self, *layers):
        return Joined(super().network(*layers))


@pytest.fixture(scope="module")
def whole():
    return datasets.load(Data())


@pytest.fixture(scope="module")
def halves(whole):
    train, validation = (
        replace(part, inputs=Halves(part.inputs)) for part in (whole.train, whole.validation)
    )
    adapter = HalvesAdapter(**vars(whole.adapter))
    return replace(whole, train=train, validation=validation, adapter=adapter)


def results(data, optimizer, path):
    """Losses of training, records, curves and coherence of two epochs."""
    ids = data.train.ids[:200]
    training = job(data, model="mlp", optimizer=optimizer, epochs=2, batch_size=64, ids=ids).start()
    losses = []
    with Recorder(path, len(data.train)) as recorder:
        for log in training.epochs():
            losses.append(log.train_loss)
            for batch in predict(training.model, data.train, data.train.ids, Resources()):
                recorder.update(*batch)
            recorder.end_epoch()
    group = Group("validation", data.validation, data.validation.ids)
    some = Group("some", data.train, ids[:20])
    curve = measure(training.model, [group], Resources())
    return losses, scores(path), curve, measure_coherence(training.model, [some], 2, Resources())


@pytest.mark.parametrize("optimizer", ["sgd", "m3", "winsorized"])
def test_several_tensors_give_the_results_of_one(whole, halves, tmp_path, optimizer):
    expected, found = (
        results(data, optimizer, tmp_path / name) for data, name in ((whole, "whole"), (halves, "halves"))
    )
    assert found[0] == expected[0]
    assert found[1].equals(expected[1])
    assert found[2] == expected[2]
    numbers = [each[3]["coherence"].to_numpy() for each in (found, expected)]
    assert np.array_equal(*numbers, equal_nan=True)


def test_one_example_and_a_batch(halves):
    inputs, label, example_id = halves.train[7]
    assert (inputs["top"].shape, label, example_id) == ((1, 4, 8), halves.train.given_labels[7], 7)
    batch, labels = halves.train.batch([7, 3])
    assert torch.equal(batch["top"][0], inputs["top"])
    assert torch.equal(labels, halves.train.given_labels[[7, 3]])
