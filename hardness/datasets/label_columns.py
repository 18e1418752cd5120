"""A column of labels, of whatever type a file has it -> class indices or class names."""

import math

import pyarrow as pa

from hardness.datasets.found import Label


class LabelError(ValueError):
    """A row whose value is no label."""


def as_labels(column: pa.ChunkedArray | pa.Array, num_classes: int) -> list[Label]:
    """Class indices below ``num_classes``, or names, one a row.

    Whole numbers may be floats, names may be in a dictionary (pandas' category); of bools the names are
    ``False`` and ``True``. Raises ``LabelError``, with the first row that will not do, counted from 0.
    """
    values = column.to_pylist()
    if pa.types.is_dictionary(kind := column.type):
        kind = kind.value_type
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    if not (is_number or is_text or pa.types.is_boolean(kind)):
        raise LabelError(f"values of type {column.type}")
    for row, value in enumerate(values):
        if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
            raise LabelError(f"no label in row {row}")
        if is_number and not (value == int(value) if math.isfinite(value) else False):
            raise LabelError(f"{value} in row {row}")
        if is_number and not 0 <= value < num_classes:
            raise LabelError(f"{value} in row {row}, which is not of 0..{num_classes - 1:,}")
    return [int(value) for value in values] if is_number else [str(value) for value in values]
