"""Runs recorded from your own training loop: a Recorder's folder, completed so that stages can read it."""

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from hardness import files
from hardness.console import remark
from hardness.dynamics import store
from hardness.dynamics.scores import score_table
from hardness.dynamics.store import Records
from hardness.errors import UserError
from hardness.runs.provenance import now, versions
from hardness.runs.reading import OWN, finished_info, read_info

_UNKNOWN = -1
"""The given label of an example that was never recorded."""


def describe(
    run: Path,
    num_examples: int,
    fingerprint: str,
    keys: Sequence[str] | None,
    class_names: Sequence[str] | None,
    texts: Sequence[str] | None,
    images: Any,
    rows: Any,
    clean_labels: Any,
    seed: int,
) -> None:
    """Write run.json and examples.parquet; see ``Recorder.describe``."""
    columns: dict[str, Any] = {"example_id": np.arange(num_examples)}
    columns["key"] = [str(key) for key in (range(num_examples) if keys is None else keys)]
    columns |= _previews(texts, images, rows)
    if clean_labels is not None:
        columns["clean_label"] = np.asarray(clean_labels).astype(np.int32)
    for name, values in columns.items():
        if len(values) != num_examples:
            raise ValueError(f"describe() needs {num_examples} values of {name}, not {len(values)}")
    if repeated := num_examples - len(set(columns["key"])):
        raise ValueError(f"keys must be distinct, but {repeated} of them are repeated")
    files.write_table(run / "examples.parquet", pd.DataFrame(columns), fingerprint)
    _write_info(
        run,
        seed=seed,
        fingerprint=fingerprint,
        status="running",
        class_names=None if class_names is None else [str(name) for name in class_names],
        times={"started": now(), "ended": None},
        records="",
        epochs=0,
    )


def _previews(texts: Sequence[str] | None, images: Any, rows: Any) -> dict[str, list[str] | list[bytes]]:
    """The column of examples.parquet with what a person can look at, if any.

    text; image_path; image: a PNG file; or row: one "name: value" per line.
    """
    given = {"texts": texts, "images": images, "rows": rows}
    if len(names := [name for name, values in given.items() if values is not None]) > 1:
        raise ValueError(f"describe() takes one of texts, images and rows, not {' and '.join(names)}")
    if texts is not None:
        return {"text": [str(text) for text in texts]}
    if rows is not None:
        rows = rows.to_dict("records") if isinstance(rows, pd.DataFrame) else rows
        pairs = [row.items() if isinstance(row, Mapping) else enumerate(row) for row in rows]
        return {"row": ["\n".join(f"{name}: {value}" for name, value in row) for row in pairs]}
    if images is None:
        return {}
    if all(isinstance(image, str | Path) for image in images):
        return {"image_path": [str(Path(image).absolute()) for image in images]}
    return {"image": [_png(np.asarray(image)) for image in images]}


def _png(pixels: np.ndarray) -> bytes:
    """uint8 (H, W) or (H, W, C) -> a PNG file."""
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3):
        raise ValueError(f"images must be paths or uint8 (H, W, C), not {pixels.dtype} {pixels.shape}")
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels).save(file, "png")
    return file.getvalue()


def is_own(run: Path) -> bool:
    """Whether a Recorder in a user's own loop wrote the folder."""
    if (run / "run.json").exists():
        info = read_info(run)
        return info["stage"] == "track" and info.get("record_mode") == OWN
    return bool(store.recorded_epochs(run))


def completed_info(run: Path, stage: str | None = None) -> dict[str, Any]:
    """run.json of a finished run, as ``finished_info``; a Recorder's folder, a run of track, is completed."""
    return complete(run) if stage in (None, "track") and is_own(run) else finished_info(run, stage)


def check_has_network(run: Path, info: dict[str, Any], what: str) -> None:
    """Raise ``UserError`` unless it is a run of ``hardness track``, whose network can be built again."""
    if info["stage"] != "track" or info.get("record_mode") == OWN:
        sentence = "{run} is not a run of `hardness track`: there is no network for {what}."
        hint = "Use what records are enough for, or track the data set with hardness."
        raise UserError("no-network", sentence, hint, what=what, run=str(run))


def complete(run: Path) -> dict[str, Any]:
    """Bring run.json, examples.parquet, scores.parquet and log.jsonl up to date with the records -> run.json.

    Without ``describe``, keys are the ids and class names are numbers.
    Raises ``UserError`` if there are no records.
    """
    epochs = store.recorded_epochs(run)
    if epochs and not store.is_whole(run, epochs[-1]):
        remark(f"epoch {epochs.pop()} in {run} is incomplete: skipped")
    if not epochs:
        raise store.no_records(run / "dynamics", "Call end_epoch() first.")
    parts = [part for epoch in epochs for part in store.parts(run, epoch)]
    status = [part.stat() for part in parts]
    stamp = f"{len(parts)} parts, {sum(each.st_size for each in status)} bytes, last change "
    stamp += f"{max(each.st_mtime_ns for each in status)}"
    known = read_info(run) if (run / "run.json").exists() else {}
    if known.get("records") == stamp and (run / "scores.parquet").exists():
        return known
    fingerprint = files.fingerprint_of(parts[0]) or ""
    summary = _Summary()
    found = score_table(summary.of(store.read_epochs(run, fingerprint, epochs[-1])))
    labels, num_classes = summary.labels, summary.num_classes
    class_names = known.get("class_names") or [str(number) for number in range(num_classes)]
    if "logits" not in summary.known:
        class_names = ["unknown"] * num_classes
    if len(class_names) < num_classes:
        sentence = "{run} has {num_names} class names, but labels or predictions of {num_classes} classes."
        values = {"run": str(run), "num_names": len(class_names), "num_classes": num_classes}
        raise UserError("too-few-class-names", sentence, "Call describe() with all names.", **values)
    examples = _examples(run, labels, summary.known)
    settings = {"last_epoch": epochs[-1], "asked": {}}
    files.write_table(run / "examples.parquet", examples, fingerprint)
    files.write_table(run / "scores.parquet", found, fingerprint, settings)
    files.write_text(run / "log.jsonl", pd.DataFrame(summary.log).to_json(orient="records", lines=True))
    started, ended = (
        datetime.fromtimestamp(pick(each.st_mtime for each in status), UTC).isoformat(timespec="seconds")
        for pick in (min, max)
    )
    noise = {}
    if "is_corrupt" in examples:
        noise["noise_rate"] = float(examples.loc[examples["is_readable"], "is_corrupt"].mean())
    _write_info(
        run,
        seed=known.get("seed", 0),
        fingerprint=fingerprint,
        status="finished",
        class_names=known.get("class_names"),
        times={"started": known.get("times", {}).get("started", started), "ended": ended},
        records=stamp,
        recorded=sorted(summary.known),
        epochs=epochs[-1],
        data={"num_train": len(labels), "num_validation": 0, "class_names": class_names},
        labels_fingerprint=hashlib.sha256(labels.astype(np.int64).tobytes()).hexdigest()[:16],
        **noise,
    )
    return read_info(run)


class _Summary:
    """What else one pass over the records tells: given labels, the log, the number of classes."""

    def __init__(self) -> None:
        self.labels = np.empty(0, np.int32)
        """(N,): -1 if never recorded."""
        self.log: list[dict[str, Any]] = []
        """The lines of log.jsonl."""
        self.num_classes = 0
        self.known: set[str] = set()
        """What was recorded, as ``Records.known``."""

    def of(self, epochs: Iterable[tuple[int, Records]]) -> Iterator[tuple[int, Records]]:
        """Yield the epochs, and summarize them on the way."""
        for epoch, records in epochs:
            if epoch == 1:
                self.labels = np.full(len(records.loss), _UNKNOWN, np.int32)
                is_learned = np.zeros(len(records.loss), bool)
            self.known |= records.known
            there = records.is_readable
            np.copyto(self.labels, records.given_label, where=there)
            is_learned |= records.is_correct
            means = {"record_loss": float(records.loss[there].mean(dtype=np.float64))}
            if "prediction" in records.known:
                means["record_top1"] = float(records.is_correct[there].mean())
                means["learned"] = float(is_learned[there].mean())
            self.log.append({"epoch": epoch, **means})
            self.num_classes = int(max(self.num_classes, records.prediction.max() + 1, self.labels.max() + 1))
            yield epoch, records


def _examples(run: Path, labels: np.ndarray, known: set[str]) -> pd.DataFrame:
    """The described table, with the given labels of the records."""
    path = run / "examples.parquet"
    if path.exists():
        table = files.read_table(path).to_pandas()
    else:
        ids = np.arange(len(labels))
        table = pd.DataFrame({"example_id": ids, "key": ids.astype(str)})
    if len(table) != len(labels):
        sentence = "{path} has {found} examples, but the records have {expected}."
        values = {"path": str(path), "found": len(table), "expected": len(labels)}
        raise UserError("other-examples", sentence, "Remove it, or call describe() again.", **values)
    table = table.assign(given_label=labels, is_readable=labels != _UNKNOWN)
    if "clean_label" in table:
        if "logits" not in known:
            sentence = "{run} has losses alone, which no clean labels can be compared with."
            raise UserError("losses-have-no-labels", sentence, "Omit clean_labels.", run=str(run))
        table["is_corrupt"] = table["is_readable"] & (table["clean_label"] != labels)
    return table


def _write_info(run: Path, *, epochs: int, **entries: Any) -> None:
    config = {"data": "", "model": "", "optimizer": "", "noise": 0.0, "noise_seed": 0, "epochs": epochs}
    fixed = {"format_version": files.FORMAT_VERSION, "stage": "track", "record_mode": OWN, "config": config}
    fixed |= {"device": "", "versions": versions(), "git_commit": None}
    files.write_json(run / "run.json", fixed | entries)
