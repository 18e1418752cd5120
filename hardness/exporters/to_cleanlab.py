"""A folder for cleanlab: files with one row per readable example, ordered by id.

- issues.parquet: example_id, is_label_issue (bool), label_score (0..1, lower is worse), given_label and
  predicted_label (class indices, int64). The score is self_confidence if the run has it, else confidence;
  ``findings.label_errors.label_issues`` decides which labels are issues.
- labels.npy: (N,) int64, the given labels.
- pred_probs.npy: (N, C) float32, by networks that were not trained on the example. Only if the run has
  self_confidence: records contain only the probability of the given label.
- origin.json: tracked_run, fingerprint, class_names.

``CleanLearning(...).fit(X, labels, label_issues=issues)`` accepts the issues directly. For a Datalab::

    issues = pandas.read_parquet("issues.parquet")
    lab = Datalab({"label": issues["given_label"]}, label_name="label")
    lab.issues = issues[["is_label_issue", "label_score"]]
    lab.info["label"] = dict(issues[["given_label", "predicted_label"]])
    lab.get_issues("label")

With pred_probs.npy, cleanlab finds issues itself: ``find_label_issues(labels, pred_probs)``,
``get_label_quality_scores(labels, pred_probs)``, ``lab.find_issues(pred_probs=pred_probs)``.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from hardness import files
from hardness.dynamics.store import no_records
from hardness.errors import UserError
from hardness.exporters.known import known, origin
from hardness.findings.label_errors import label_issues

DEFAULT_NAME = "export-cleanlab"
MARK = ("origin.json", b'{\n  "tracked_run": ')


def write(out: Path, run: Path, info: dict[str, Any]) -> None:
    table = known(run, info)
    if "prediction" not in table.column_names:
        raise no_records(run / "dynamics", "Restore it, or choose --to csv.")
    by = "self_confidence" if "self_confidence" in table.column_names else "confidence"
    table = table.select(["example_id", "given_label_index", "prediction_index", by, "is_readable"])
    table = table.filter(table["is_readable"])
    ids, labels, predictions = (
        table[name].to_numpy().astype(np.int64)
        for name in ("example_id", "given_label_index", "prediction_index")
    )
    folds = _folds(run, info["fingerprint"], ids) if by == "self_confidence" else []
    files.write_json(out / "origin.json", origin(run, info))
    (out / "pred_probs.npy").unlink(missing_ok=True)
    if folds:
        num_classes = len(info["data"]["class_names"])
        predictions = _write_probabilities(
            out / "pred_probs.npy", folds, info["fingerprint"], ids, num_classes
        )
    quality = table[by].to_numpy()
    columns = {
        "example_id": ids,
        "is_label_issue": label_issues(labels, predictions, quality),
        "label_score": quality,
        "given_label": labels,
        "predicted_label": predictions,
    }
    files.write_table(out / "issues.parquet", pa.table(columns), info["fingerprint"], {"by": by})
    with files.replacing(out / "labels.npy") as temporary, temporary.open("wb") as file:
        np.save(file, labels)


def _folds(run: Path, fingerprint: str, ids: np.ndarray) -> list[Path]:
    """The files of out-of-fold probabilities that self_confidence wrote, of exactly those ids (N,)."""
    folder = run / "out-of-fold"
    folds = sorted(folder.glob("fold=*.parquet"))
    members = [files.read_table(fold, fingerprint, ["example_id"])["example_id"].to_numpy() for fold in folds]
    if not folds or not np.array_equal(np.sort(np.concatenate(members)), ids):
        sentence = "{folder} does not contain exactly the {count} readable examples of the run."
        hint = "Remove it, and run `hardness score --run {run} --with self-confidence`."
        values = {"folder": str(folder), "count": len(ids), "run": str(run)}
        raise UserError("wrong-out-of-fold-examples", sentence, hint, **values)
    return folds


def _write_probabilities(
    path: Path, folds: list[Path], fingerprint: str, ids: np.ndarray, num_classes: int
) -> np.ndarray:
    """Write the probabilities in the order of ids (N,) -> (N,) int64, the most likely class of each."""
    predictions = np.empty(len(ids), np.int64)
    with files.replacing(path) as temporary:
        # 5 GB for ImageNet: only one fold at a time is in memory.
        written = np.lib.format.open_memmap(temporary, "w+", np.float32, (len(ids), num_classes))
        for fold in folds:
            table = files.read_table(fold, fingerprint)
            values = table["probabilities"].combine_chunks().flatten().to_numpy().reshape(-1, num_classes)
            rows = np.searchsorted(ids, table["example_id"].to_numpy())
            written[rows], predictions[rows] = values, values.argmax(1)
        written.flush()
    return predictions
