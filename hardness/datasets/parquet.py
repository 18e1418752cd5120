"""Parquet files with a column of images and a column of labels, as on the Hugging Face hub.

``hardness.parts`` determines which are for training and for validation. A label is a class name, or a class
index whose name is taken from the metadata that ``datasets`` writes.
"""

import json
import os
import threading
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from hardness.datasets.found import MOST_CLASSES, Label, Notes, number_classes
from hardness.datasets.label_columns import as_labels, no_such_column, wrong_type
from hardness.datasets.source import FilePattern, Found, Sample
from hardness.errors import UserError
from hardness.files import damaged_parquet
from hardness.parts import PARTS, TEST, TRAIN, VALIDATION, held_out, innermost_part
from hardness.paths import matching
from hardness.registry import SOURCES

_COLUMNS = ("image", "label")
_NAME_COLUMNS = "Name the columns as parquet:PATTERN:IMAGE:LABEL."
# Otherwise every thread that reaches a new row group would read it.
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
            raise ValueError("its cell is empty")
        return value if size < 0 else value[:size]


@lru_cache(maxsize=8)
def _read_column(file: str, row_group: int, column: str) -> pa.ChunkedArray:
    """Row groups are read as a whole, and cached because threads read neighboring rows next."""
    with pq.ParquetFile(file, page_checksum_verification=True) as opened:
        is_struct = pa.types.is_struct(opened.schema_arrow.field(column).type)
        found = opened.read_row_group(row_group, [f"{column}.bytes" if is_struct else column]).column(0)
    found = found.combine_chunks().field("bytes") if pa.types.is_struct(found.type) else found
    return found.cast(found.type.value_type) if pa.types.is_dictionary(found.type) else found


@SOURCES.register("parquet", syntax="PATTERN[:IMAGE_COLUMN:LABEL_COLUMN]")
class ParquetFiles(FilePattern):
    """Parquet files with a column of images, in the order of their names."""

    @property
    def pattern(self) -> str:
        return columns_of(self.place)[0]

    def find(self) -> Found:
        notes, (pattern, *columns) = Notes(), columns_of(self.place)
        paths = matching(pattern)
        root = os.path.commonpath([Path(path).parent for path in paths])
        below = {path: Path(path).relative_to(root).as_posix() for path in paths}
        names = {path: below[path].removesuffix(".parquet") for path in paths}
        parts = {path: innermost_part(name.split("/")) or TRAIN for path, name in names.items()}
        # Test sets often have no labels.
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
        return Found(found, class_names, notes, left_out)


def columns_of(place: str) -> tuple[str, str, str]:
    """``PATTERN`` or ``PATTERN:IMAGE:LABEL`` -> (pattern, image column, label column).

    A path may contain colons: if files match all of ``place``, it names no columns.
    """
    pattern, *columns = place.rsplit(":", 2)
    if len(columns) < 2 or matching(place):
        return place, *_COLUMNS
    return pattern, *columns


class _File(NamedTuple):
    path: str
    cells: list[Cell]
    labels: list[Label]
    class_names: list[str] | None
    """From Hugging Face's ``ClassLabel``."""


def _open(path: str, image_column: str, label_column: str) -> _File:
    """Raises ``UserError`` for missing columns, a row without a label, and a damaged file."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            schema = file.schema_arrow
            _check_columns(path, schema, image_column, label_column)
            labels = file.read([label_column])[label_column]
            groups = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
            if sum(groups) != len(labels):
                raise ValueError(f"{len(labels)} labels in {sum(groups)} rows")
            _check_bytes(path, file, image_column)
        names = _feature_names(schema.metadata or {}, label_column)
        values = as_labels(labels, len(names) if names else MOST_CLASSES, path, label_column)
    except UserError:
        raise
    # A damaged file can make the reader raise anything.
    except Exception as error:
        raise damaged_parquet(path, error) from error
    is_named = bool(values) and isinstance(values[0], str)
    cells = [Cell(path, image_column, group, row) for group, size in enumerate(groups) for row in range(size)]
    return _File(path, cells, values, None if is_named else names)


def _check_columns(path: str, schema: pa.Schema, image_column: str, label_column: str) -> None:
    for column in (image_column, label_column):
        if column not in schema.names:
            raise no_such_column(path, column, schema.names, _NAME_COLUMNS)
    if not _is_image(kind := schema.field(image_column).type):
        raise wrong_type(path, image_column, kind, f"It must hold encoded images. {_NAME_COLUMNS}")


def _is_image(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _is_image(kind.field("bytes").type)
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _check_bytes(path: str, file: pq.ParquetFile, column: str) -> None:
    """Raise ``UserError`` if only paths of images are stored: files that they name are not read."""
    kind = file.schema_arrow.field(column).type
    if not (pa.types.is_struct(kind) and kind.get_field_index("path") >= 0 and file.num_row_groups):
        return
    group = file.metadata.row_group(0)
    chunks = map(group.column, range(group.num_columns))
    statistics = next((each.statistics for each in chunks if each.path_in_schema == f"{column}.bytes"), None)
    # From the statistics, as images are large. Without statistics, reading each image raises an error.
    if statistics and statistics.has_null_count and 0 < statistics.null_count == group.num_rows:
        first = file.read_row_group(0, [f"{column}.path"]).column(0)[0].as_py()["path"]
        sentence = (
            "Column {column} of {path} has paths of images, but not their bytes (the first: {first!r})."
        )
        hint = "Write the bytes into the file (datasets: embed the files), or use imagefolder:PATH."
        raise UserError("paths-without-bytes", sentence, hint, column=column, path=path, first=first)


def _feature_names(metadata: dict[bytes, bytes], column: str) -> list[str] | None:
    try:
        feature = json.loads(metadata[b"huggingface"])["info"]["features"][column]
        return [str(name) for name in feature["names"]]
    except (KeyError, TypeError, ValueError):
        return None


def _check_alike(files: list[_File]) -> None:
    first, *others = [file for file in files if file.labels] or files[:1]
    for file in others:
        if (file.class_names, type(file.labels[0])) != (first.class_names, type(first.labels[0])):
            sentence = "{path} has other class names, or another kind of labels, than {first}."
            hint = "Choose a pattern that only matches files of one data set."
            raise UserError("other-classes", sentence, hint, path=file.path, first=first.path)


def _classes(files: list[_File], notes: Notes) -> tuple[list[str], dict[Label, int]]:
    labels = {label for file in files for label in file.labels}
    if names := next((file.class_names for file in files if file.class_names), None):
        return names, {label: label for label in labels}
    return number_classes(labels, notes) if labels else ([""], {})
