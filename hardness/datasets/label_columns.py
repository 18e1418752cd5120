"""Columns of labels in files: any usual type becomes class indices or class names."""

import math
from collections.abc import Sequence

import pyarrow as pa

from hardness.datasets.found import Label
from hardness.errors import UserError


def no_such_column(path: object, column: str, columns: Sequence[str], hint: str) -> UserError:
    sentence, columns = "{path} must have one column {column} (it has {columns}).", ", ".join(columns)
    return UserError("no-such-column", sentence, hint, path=str(path), column=column, columns=columns)


def wrong_type(path: object, column: str, kind: pa.DataType, hint: str) -> UserError:
    sentence, values = "Column {column} of {path} has type {type}.", {"path": str(path), "type": str(kind)}
    return UserError("wrong-column-type", sentence, hint, column=column, **values)


def as_labels(values: pa.ChunkedArray | pa.Array, num_classes: int, path: object, column: str) -> list[Label]:
    """Class indices below ``num_classes``, or class names, one per row of a column of the file ``path``.

    Indices may be floats, names may be dictionary-encoded (pandas' category); bools are the names ``False``
    and ``True``. Raises ``UserError`` with the first invalid row, counted from 0.
    """
    if pa.types.is_dictionary(kind := values.type):
        kind = kind.value_type
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    if not (is_number or is_text or pa.types.is_boolean(kind)):
        raise wrong_type(path, column, values.type, "Write integers or strings.")
    labels, place = values.to_pylist(), {"path": str(path), "column": column}
    for row, label in enumerate(labels):
        if label is None or label == "" or (isinstance(label, float) and math.isnan(label)):
            sentence = "Column {column} of {path} has no value in row {row}."
            raise UserError("empty-cell", sentence, "Fill in or remove those rows.", row=row, **place)
        if is_number and not (0 <= label < num_classes and label == int(label)):
            sentence = "Column {column} of {path} has {value} in row {row}."
            hint = "Values must be integers from 0 to {last:,}."
            found = {"value": label, "row": row, "last": num_classes - 1}
            raise UserError("value-out-of-range", sentence, hint, **found, **place)
    return [int(label) for label in labels] if is_number else [str(label) for label in labels]
