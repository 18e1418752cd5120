"""A folder that FiftyOne loads; the images stay where they are::

    fiftyone.Dataset.from_dir(PATH, dataset_type=fiftyone.types.FiftyOneDataset)

One sample per example: ground_truth (the given label), clean_label and prediction (Classifications),
example_id, is_corrupt, is_readable, and every score (a float, or None). Its tags name its subsets and fold in
each split: ``q0.2/easy``, ``q0.2/train``. The layout is ``fiftyone.types.LegacyFiftyOneDataset``, which
FiftyOne detects (tested with 1.22), and which can be written without FiftyOne or its database.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from hardness import files
from hardness.dynamics.scores import NOT_SCORES
from hardness.errors import UserError
from hardness.exporters.known import known, origin
from hardness.runs.reading import image_folder

DEFAULT_NAME = "export-fiftyone"
MARK = ("metadata.json", b'{\n  "info": {\n    "tracked_run": ')
_LABELS = {"ground_truth": "given_label", "clean_label": "clean_label", "prediction": "prediction"}
_FIELDS = {
    "filepath": "StringField",
    "tags": "ListField(fiftyone.core.fields.StringField)",
    "example_id": "IntField",
    "is_corrupt": "BooleanField",
    "is_readable": "BooleanField",
    **dict.fromkeys(_LABELS, "EmbeddedDocumentField(fiftyone.core.labels.Classification)"),
}
_ROWS_AT_ONCE = 1 << 14


def write(out: Path, run: Path, info: dict[str, Any]) -> None:
    table = known(run, info)
    place = "image_path" if "image_path" in table.column_names else "key"
    root = (
        Path("/")
        if place == "image_path"
        else image_folder(info, "--to fiftyone", "Choose --to csv.").resolve()
    )
    if not (first := root / table[place][0].as_py()).is_file():
        sentence, hint = (
            "There is no image {path}.",
            "Restore it, or change to the folder where track was run.",
        )
        raise UserError("missing-image", sentence, hint, path=str(first))
    scores = [name for name in files.column_names(run / "scores.parquet") if name not in NOT_SCORES]
    kinds = _FIELDS | dict.fromkeys(scores, "FloatField")
    about = {
        "info": origin(run, info),
        "media_type": "image",
        "sample_fields": {name: f"fiftyone.core.fields.{kind}" for name, kind in kinds.items()},
    }
    files.write_json(out / "metadata.json", about)
    with files.replacing(out / "samples.json") as temporary, temporary.open("w", encoding="utf-8") as file:
        before = '{"samples": [\n'
        for sample in _samples(table, root, place, scores):
            file.write(before + json.dumps(sample, ensure_ascii=False))
            before = ",\n"
        file.write("\n]}\n")


def _samples(table: pa.Table, root: Path, place: str, scores: list[str]) -> Iterator[dict[str, Any]]:
    splits = [name.removeprefix("split/") for name in table.column_names if name.startswith("split/")]
    for batch in table.to_batches(_ROWS_AT_ONCE):
        for row in batch.to_pylist():
            yield {
                "filepath": str(root / row[place]),
                "tags": [tag for split in splits for tag in _tags(row, split)],
                **{name: row.get(name) for name in ("example_id", "is_corrupt", "is_readable")},
                **{name: _classification(row, label) for name, label in _LABELS.items()},
                **{name: None if row[name] is None else float(row[name]) for name in scores},
            }


def _tags(row: dict[str, Any], split: str) -> list[str]:
    subsets = row[f"split/{split}"]
    return [f"{split}/{tag}" for tag in (*subsets.split(";"), row[f"fold/{split}"])] if subsets else []


def _classification(row: dict[str, Any], label: str) -> dict[str, Any] | None:
    if row.get(label) is None:
        return None
    return {"_cls": "Classification", "label": row[label], "confidence": row.get(f"{label}_confidence")}
