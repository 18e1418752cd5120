"""Parquet files with a column of images and one of labels, as Hugging Face's hub has them.

Which are for training and for validation, ``hardness.parts`` says. A label is a class index, whose names are
taken from what ``datasets`` wrote beside it, or the name of a class.
"""

import json
import os
import threading
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from hardness.config import Data
from hardness.datasets.base import DataSet, Notes
from hardness.datasets.found import MOST_CLASSES, Label, number_classes
from hardness.datasets.label_columns import LabelError, as_labels
from hardness.datasets.samples import Sample, from_samples
from hardness.errors import UserError
from hardness.parts import PARTS, TEST, TRAIN, VALIDATION, held_out, innermost_part
from hardness.paths import matching, parquet_place
from hardness.resources import Resources

# Or all threads that come to a new row group would read it.
_one_at_a_time = threading.Lock()


class Cell(NamedTuple):
    """An encoded image in a file."""

    file: str
    column: str
    row_group: int
    row: int

    def __str__(self) -> str:
        return f"{self.file}, row {self.row} of group {self.row_group}"

    def read(self, size: int = -1) -> bytes:
        with _one_at_a_time:
            column = _read_column(self.file, self.row_group, self.column)
        value = column[self.row].as_py()
        if not value:
            raise ValueError("there are no bytes in its cell")
        return value if size < 0 else value[:size]


@lru_cache(maxsize=8)
def _read_column(file: str, row_group: int, column: str) -> pa.ChunkedArray:
    """A row group is the least that can be read: kept, since threads ask for its neighbours next."""
    with pq.ParquetFile(file, page_checksum_verification=True) as opened:
        is_struct = pa.types.is_struct(opened.schema_arrow.field(column).type)
        found = opened.read_row_group(row_group, [f"{column}.bytes" if is_struct else column]).column(0)
    found = found.combine_chunks().field("bytes") if pa.types.is_struct(found.type) else found
    return found.cast(found.type.value_type) if pa.types.is_dictionary(found.type) else found


def load(place: str, config: Data, *, model: str, resources: Resources) -> DataSet:
    """All files that match the pattern, in the order of their names; ``PATTERN:IMAGE:LABEL``."""
    notes, (pattern, *columns) = Notes(), parquet_place(place)
    paths = matching(pattern)
    root = os.path.commonpath([Path(path).parent for path in paths])
    below = {path: Path(path).relative_to(root).as_posix() for path in paths}
    names = {path: below[path].removesuffix(".parquet") for path in paths}
    parts = {path: innermost_part(name.split("/")) or TRAIN for path, name in names.items()}
    # The labels of a test set are often missing.
    unused = TEST if held_out(parts.values()) == VALIDATION else None
    files = [_open(path, *columns) for path in paths if parts[path] != unused]
    _check_alike(files)
    class_names, number_of = _classes(files, notes)
    found: dict[str, list[Sample]] = {part: [] for part in PARTS}
    for file in files:
        name, source = names[file.path], below[file.path]
        for cell, label in zip(file.cells, file.labels, strict=True):
            key = f"{name}/{cell.row_group}-{cell.row:05d}"
            found[parts[file.path]].append(Sample(cell, number_of[label], key, source))
    left_out = [below[path] for path in paths if parts[path] == unused]
    settings = {"model": model, "resources": resources, "left_out": left_out}
    return from_samples(found, class_names, config, notes, **settings)


class _File(NamedTuple):
    path: str
    cells: list[Cell]
    labels: list[Label]
    class_names: list[str] | None
    """Of Hugging Face's ``ClassLabel``."""


def _open(path: str, image_column: str, label_column: str) -> _File:
    """Raises ``UserError`` where there are no such columns, or for a row without a label or an image."""
    try:
        # Pages that have a checksum are compared with it.
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            schema = file.schema_arrow
            _check_columns(path, schema, image_column, label_column)
            labels = file.read([label_column])[label_column]
            groups = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
            if sum(groups) != len(labels):
                raise ValueError(f"{len(labels)} labels in {sum(groups)} rows")
            _check_bytes(path, file, image_column)
    except UserError:
        raise
    # A damaged file makes the reader raise whatever it meets.
    except Exception as error:
        found = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"a whole Parquet file {path}", found, "copy it again") from error
    names = _names_beside(schema.metadata or {}, label_column)
    try:
        values = as_labels(labels, len(names) if names else MOST_CLASSES)
    except LabelError as error:
        expected = f"a class index or a class name in column {label_column} of {path}"
        raise UserError(expected, str(error), "correct those rows, or leave them out") from error
    is_named = bool(values) and isinstance(values[0], str)
    cells = [Cell(path, image_column, group, row) for group, size in enumerate(groups) for row in range(size)]
    return _File(path, cells, values, None if is_named else names)


def _check_columns(path: str, schema: pa.Schema, image_column: str, label_column: str) -> None:
    for column in (image_column, label_column):
        if column not in schema.names:
            found, do = f"columns {', '.join(schema.names)}", "name one: parquet:PATTERN:IMAGE:LABEL"
            raise UserError(f"a column {column} in {path}", found, do)
    if not _is_image(kind := schema.field(image_column).type):
        do = "name another: parquet:PATTERN:IMAGE:LABEL"
        raise UserError(f"encoded images in column {image_column} of {path}", str(kind), do)


def _is_image(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _is_image(kind.field("bytes").type)
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _check_bytes(path: str, file: pq.ParquetFile, column: str) -> None:
    """Refuse images of which a file has the paths alone: paths in somebody's file are not followed."""
    kind = file.schema_arrow.field(column).type
    if not (pa.types.is_struct(kind) and kind.get_field_index("path") >= 0 and file.num_row_groups):
        return
    group = file.metadata.row_group(0)
    chunks = map(group.column, range(group.num_columns))
    statistics = next((each.statistics for each in chunks if each.path_in_schema == f"{column}.bytes"), None)
    # By its statistics, since images are large. Without them each image is refused when it is read.
    if statistics and statistics.has_null_count and 0 < statistics.null_count == group.num_rows:
        first = file.read_row_group(0, [f"{column}.path"]).column(0)[0].as_py()["path"]
        found = f"paths without bytes, the first {first!r}"
        do = "write the bytes into the file (datasets: save with embedded files), or use imagefolder:PATH"
        raise UserError(f"encoded images in column {column} of {path}", found, do)


def _names_beside(metadata: dict[bytes, bytes], column: str) -> list[str] | None:
    try:
        feature = json.loads(metadata[b"huggingface"])["info"]["features"][column]
        return [str(name) for name in feature["names"]]
    except (KeyError, TypeError, ValueError):
        return None


def _check_alike(files: list[_File]) -> None:
    first, *others = [file for file in files if file.labels] or files[:1]
    for file in others:
        if (file.class_names, type(file.labels[0])) != (first.class_names, type(first.labels[0])):
            found, do = "others, or other kinds of labels", "match files of one data set"
            raise UserError(f"the classes of {first.path} in {file.path}", found, do)


def _classes(files: list[_File], notes: Notes) -> tuple[list[str], dict[Label, int]]:
    labels = {label for file in files for label in file.labels}
    if names := next((file.class_names for file in files if file.class_names), None):
        return names, {label: label for label in labels}
    return number_classes(labels, notes) if labels else ([""], {})
