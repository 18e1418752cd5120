"""Parquet files with a column of images and one of labels, as Hugging Face's hub has them.

Files whose name, or whose folder's, begins with val or test are the validation set. A label is a class index,
whose names are taken from what ``datasets`` wrote beside it, or the name of a class.
"""

import glob
import json
import os
import threading
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from hardness.config import Data
from hardness.datasets.base import DataSet
from hardness.datasets.samples import Sample, cut, from_samples
from hardness.errors import UserError

_COLUMNS = ("image", "label")
_MOST_CLASSES = 1_000_000
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

    def read(self) -> bytes:
        with _one_at_a_time:
            column = _read_column(self.file, self.row_group, self.column)
        value = column[self.row].as_py()
        if not value:
            raise ValueError("there are no bytes in its cell")
        return value


@lru_cache(maxsize=8)
def _read_column(file: str, row_group: int, column: str) -> pa.ChunkedArray:
    """A row group is the least that can be read: kept, since threads ask for its neighbours next."""
    found = pq.ParquetFile(file).read_row_group(row_group, [column]).column(0)
    return found.combine_chunks().field("bytes") if pa.types.is_struct(found.type) else found


def load(place: str, config: Data, *, model: str, workers: int) -> DataSet:
    """All files that match the pattern, in the order of their names; ``PATTERN:IMAGE:LABEL``."""
    pattern, *columns = place.split(":")
    files = [_open(file, *(columns or _COLUMNS)) for file in sorted(glob.glob(pattern))]  # noqa: PTH207
    class_names, root = _class_names(files), Path(os.path.commonpath([file.path.parent for file in files]))
    number_of = {name: number for number, name in enumerate(class_names)}
    parts: dict[str, list[Sample]] = {"train": [], "val": []}
    for file in files:
        is_held_out = any(name.startswith(("val", "test")) for name in file.path.relative_to(root).parts)
        part = "val" if is_held_out else "train"
        numbers = (number_of[label] if isinstance(label, str) else label for label in file.labels)
        parts[part] += zip(file.cells, numbers, strict=True)
    where = "in val*.parquet or test*.parquet"
    train, validation = cut(parts["train"], parts["val"], config.val_fraction, pattern, where)

    def key_of(cell: Cell) -> str:
        file = Path(cell.file).relative_to(root).with_suffix("")
        return f"{file.as_posix()}/{cell.row_group}-{cell.row:05d}"

    return from_samples(train, validation, class_names, key_of, config, model=model, workers=workers)


class _File(NamedTuple):
    path: Path
    cells: list[Cell]
    labels: list[int] | list[str]
    class_names: list[str] | None
    """Of Hugging Face's ``ClassLabel``."""
    is_named: bool
    """The labels are names."""


def _open(path: str, image_column: str, label_column: str) -> _File:
    """Raises ``UserError`` where there are no such columns, or labels are missing."""
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            for column, holds, of in (
                (image_column, _is_image, "encoded images"),
                (label_column, _is_label, "class indices or names"),
            ):
                if column not in schema.names:
                    found, do = f"columns {', '.join(schema.names)}", "name one: parquet:PATTERN:IMAGE:LABEL"
                    raise UserError(f"a column {column} in {path}", found, do)
                if not holds(kind := schema.field(column).type):
                    do = "name another: parquet:PATTERN:IMAGE:LABEL"
                    raise UserError(f"{of} in column {column} of {path}", str(kind), do)
            labels = file.read([label_column])[label_column]
            groups = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    except (pa.ArrowException, OSError) as error:
        found = str(error).splitlines()[0]
        raise UserError(f"a whole Parquet file {path}", found, "copy it again") from error
    if labels.null_count:
        found = f"{labels.null_count} without"
        raise UserError(f"a label for each row of {path}", found, "leave those rows out, or label them")
    cells = [Cell(path, image_column, group, row) for group, size in enumerate(groups) for row in range(size)]
    values, is_named = labels.to_pylist(), not pa.types.is_integer(labels.type)
    names = None if is_named else _names_beside(schema.metadata or {}, label_column)
    most = len(names) if names else _MOST_CLASSES
    outside = [] if is_named else [label for label in values if not 0 <= label < most]
    if outside:
        raise UserError(f"labels of 0..{most - 1:,} in {path}", str(outside[0]), "mend the column")
    return _File(Path(path), cells, values, names, is_named)


def _is_image(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _is_image(kind.field("bytes").type)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _is_label(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _names_beside(metadata: dict[bytes, bytes], column: str) -> list[str] | None:
    try:
        feature = json.loads(metadata[b"huggingface"])["info"]["features"][column]
        return [str(name) for name in feature["names"]]
    except (KeyError, TypeError, ValueError):
        return None


def _class_names(files: list[_File]) -> list[str]:
    first = files[0]
    for file in files:
        if (file.class_names, file.is_named) != (first.class_names, first.is_named):
            found, do = "others, or other kinds of labels", "match files of one data set"
            raise UserError(f"the classes of {first.path} in {file.path}", found, do)
    if first.class_names:
        return first.class_names
    labels = {label for file in files for label in file.labels}
    return sorted(labels) if first.is_named else [str(n) for n in range(max(labels, default=0) + 1)]
