"""Everything about the examples of a tracked run, as one table."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hardness import files
from hardness.dynamics import store
from hardness.runs.reading import OWN, has_logits

_TEXTS = ("text", "image_path", "row")


def origin(run: Path, info: dict[str, Any]) -> dict[str, Any]:
    """Where an export comes from, and the names of the classes 0..C-1."""
    return {
        "tracked_run": str(run),
        "fingerprint": info["fingerprint"],
        "class_names": info["data"]["class_names"],
    }


def known(run: Path, info: dict[str, Any]) -> pa.Table:
    """One row per example, ordered by id; missing values are null.

    example_id, key, given_label and clean_label (class names), given_label_index, clean_label_index,
    is_corrupt, is_readable; from the last epoch's records prediction, prediction_index and
    prediction_confidence (the probability of the prediction); every score of scores.parquet; for each split
    ``split/NAME``, the example's subsets (``hard;random``), and ``fold/NAME``. In a run of your own training
    loop, clean labels, is_corrupt, text, image_path and row are there if they were described.
    """
    fingerprint, class_names = info["fingerprint"], pa.array(info["data"]["class_names"], pa.string())
    examples = files.read_table(run / "examples.parquet", fingerprint)
    scores = files.read_table(run / "scores.parquet", fingerprint)

    given_label = examples["given_label"]
    if info.get("record_mode") == OWN:
        # -1: never recorded.
        is_known = pc.and_(pc.greater_equal(given_label, 0), has_logits(info))
        given_label = pc.if_else(is_known, given_label, None)

    def named(name: str, index: pa.Array | pa.ChunkedArray) -> dict[str, pa.Array | pa.ChunkedArray]:
        return {name: pc.take(class_names, index), f"{name}_index": index}

    columns = {
        "example_id": examples["example_id"],
        "key": examples["key"],
        **named("given_label", given_label),
    }
    if "is_corrupt" in examples.column_names:
        columns |= named("clean_label", examples["clean_label"]) | {"is_corrupt": examples["is_corrupt"]}
    columns["is_readable"] = pc.is_valid(scores["mean_loss"])
    columns |= {name: examples[name] for name in _TEXTS if name in examples.column_names}
    if epochs := store.recorded_epochs(run):
        last = store.read_epoch(run, epochs[-1], fingerprint)
        is_known = last.is_readable & has_logits(info)
        columns |= named("prediction", pa.array(last.prediction, mask=~is_known))
        # The margin of a wrong prediction is the label's logit minus its own: p = p_label exp(-margin).
        confidence = np.exp(-last.loss - np.minimum(last.margin, 0)).clip(max=1)
        columns["prediction_confidence"] = pa.array(confidence, mask=~is_known)
    columns |= {name: scores[name] for name in scores.column_names if name != "example_id"}
    for path in sorted((run / "splits").glob("*.parquet")):
        subsets, folds = _membership(
            files.read_table(path, fingerprint, ["example_id", "subset", "fold"]), len(examples)
        )
        columns |= {f"split/{path.stem}": subsets, f"fold/{path.stem}": folds}
    return pa.table(columns)


def _membership(split: pa.Table, num_examples: int) -> tuple[pa.Array, pa.Array]:
    """A split's file -> (N,) subsets joined by ; in file order, (N,) folds; null for examples in none."""
    ids = split["example_id"].to_numpy()
    subsets, folds = (split[name].cast(pa.string()).combine_chunks() for name in ("subset", "fold"))
    counts = np.bincount(ids, minlength=num_examples)
    is_in_none = pa.array(counts == 0)
    starts = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
    members = pa.ListArray.from_arrays(starts, subsets.take(np.argsort(ids, kind="stable")), mask=is_in_none)
    row = np.zeros(num_examples, np.int64)
    row[ids] = np.arange(len(ids))
    return pc.binary_join(members, ";"), folds.take(pa.array(row, mask=counts == 0))
