"""Self-confidence from out-of-fold probabilities (Northcutt, Jiang and Chuang 2021, arXiv:1911.00068)."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from hardness import files, seeding
from hardness.console import say
from hardness.dynamics.scores import SCORES
from hardness.errors import UserError
from hardness.probes.tracked_model import TrackedModel
from hardness.training.measure import predict

FOLDS = 5


@SCORES.register(
    "self_confidence",
    formula="p of a network trained on the other folds",
    source="Northcutt et al. 2021, arXiv:1911.00068",
    range="0..1",
    sign=-1,
    use="Label errors, if five more trainings are affordable; memorization cannot hide them.",
)
def self_confidence(tracked: TrackedModel) -> np.ndarray:
    """Probability of the given label by a network that was not trained on the example.

    (N,) float64.
    """
    labels = tracked.examples.given_labels.numpy()
    found = np.full(len(labels), np.nan)
    for fold, probabilities in out_of_fold(tracked):
        found[fold] = probabilities[np.arange(len(fold)), labels[fold]]
    return found


def out_of_fold(tracked: TrackedModel) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (ids (F,), probabilities (F, C) float32) by a network that was not trained on those examples.

    Five folds, stratified by given label; each network is trained with the run's settings, with its own
    initialization and order. The result of a fold is stored in RUN/out-of-fold/fold=K.parquet and reused.
    """
    images, fingerprint = tracked.examples, tracked.job.data.fingerprint
    for number, fold in enumerate(folds(images.given_labels.numpy(), images.ids, tracked.job.seed)):
        path = tracked.run / "out-of-fold" / f"fold={number}.parquet"
        if not path.exists():
            files.write_table(path, _train_without(tracked, fold, number), fingerprint)
            say(f"fold {number + 1}/{FOLDS} of {tracked.run}: network trained")
        yield fold, read_fold(path, fingerprint, fold, tracked.job.data.num_classes)


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


def _train_without(tracked: TrackedModel, fold: np.ndarray, number: int) -> pa.Table:
    examples = tracked.examples
    seed = seeding.derive(tracked.job.seed, "out of fold", number)
    training = replace(tracked.job, ids=np.setdiff1d(examples.ids, fold), seed=seed).start()
    for _ in training.epochs():
        pass
    predicted = predict(training.model, examples, fold, tracked.resources)
    probabilities = torch.cat([logits.softmax(1).cpu() for _, logits, _ in predicted]).numpy()
    lists = pa.FixedSizeListArray.from_arrays(pa.array(probabilities.ravel()), probabilities.shape[1])
    return pa.table({"example_id": fold, "probabilities": lists})
