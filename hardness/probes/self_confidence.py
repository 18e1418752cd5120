"""Self-confidence from out-of-fold probabilities (Northcutt, Jiang and Chuang 2021, arXiv:1911.00068)."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from hardness import files, models, optim, seeding
from hardness.console import say
from hardness.datasets import augment
from hardness.errors import UserError
from hardness.probes.subject import Subject
from hardness.training.fit import fit
from hardness.training.measure import predict

FOLDS = 5


def self_confidence(subject: Subject) -> np.ndarray:
    """(N,) float64: the probability of the given label, by a network trained on the other folds alone."""
    labels = subject.data.train.given_labels.numpy()
    found = np.full(len(labels), np.nan)
    for fold, probabilities in out_of_fold(subject):
        found[fold] = probabilities[np.arange(len(fold)), labels[fold]]
    return found


def out_of_fold(subject: Subject) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (ids (F,), probabilities (F, C) float32) by a network that was not trained on those examples.

    Five folds, stratified by given label; each network is trained with the run's settings, with its own
    initialization and order. The result of a fold is stored in RUN/out-of-fold/fold=K.parquet and reused.
    """
    images, fingerprint = subject.data.train, subject.data.fingerprint
    for number, fold in enumerate(folds(images.given_labels.numpy(), images.ids, subject.config.seed)):
        path = subject.run / "out-of-fold" / f"fold={number}.parquet"
        if not path.exists():
            files.write_table(path, _train_without(subject, fold, number), fingerprint)
            say(f"fold {number + 1}/{FOLDS} of {subject.run}: network trained")
        yield fold, read_fold(path, fingerprint, fold, subject.data.num_classes)


def folds(labels: np.ndarray, ids: np.ndarray, seed: int) -> list[np.ndarray]:
    """Split the readable ids into folds; sizes, and counts of each class, differ by one at most.

    Raises ``UserError`` if there are fewer examples than folds.
    """
    if len(ids) < FOLDS:
        sentence, hint = "{examples} examples cannot be split into {folds} folds.", "Choose another score."
        raise UserError("fewer-examples-than-folds", sentence, hint, examples=len(ids), folds=FOLDS)
    order = seeding.generator(seed, "out of fold").permutation(ids)
    by_class = order[np.argsort(labels[order], kind="stable")]
    return [np.sort(by_class[number::FOLDS]) for number in range(FOLDS)]


def read_fold(path: Path, fingerprint: str, fold: np.ndarray, num_classes: int) -> np.ndarray:
    """(len(fold), C). Raises ``UserError`` if the file has other examples."""
    table = files.read_table(path, fingerprint)
    values = table["probabilities"].combine_chunks().flatten().to_numpy().reshape(-1, num_classes)
    if not np.array_equal(table["example_id"].to_numpy(), fold):
        sentence = "{path} does not have the examples of this fold."
        raise UserError("wrong-fold", sentence, "Delete its folder, and score again.", path=str(path))
    return values


def _train_without(subject: Subject, fold: np.ndarray, number: int) -> pa.Table:
    config, images = subject.config, subject.data.train
    stream = seeding.derive(config.seed, "out of fold", number)
    model = models.build(
        config.model,
        subject.data,
        seed=seeding.derive(stream, "init"),
        stem=config.stem,
        precision=config.precision,
        compile=config.compile,
    ).to(subject.device)
    optimizer = optim.build(
        config.optimizer, model.parameters(), config.lr, config.weight_decay, config.momentum
    )
    for _ in fit(
        model,
        optimizer,
        images,
        np.setdiff1d(images.ids, fold),
        epochs=config.epochs,
        batch_size=config.batch_size,
        schedule=config.schedule,
        seed=stream,
        device=subject.device,
        workers=subject.workers,
        augment=augment.build(config.augment, subject.data.image_shape, stream),
    ):
        pass
    predicted = predict(model, images, fold, subject.device, subject.workers)
    probabilities = torch.cat([logits.softmax(1).cpu() for _, logits, _ in predicted]).numpy()
    lists = pa.FixedSizeListArray.from_arrays(pa.array(probabilities.ravel()), probabilities.shape[1])
    return pa.table({"example_id": fold, "probabilities": lists})
