"""One CSV file: UTF-8, a header, one row per example, with the columns of ``known.known``.

Text is quoted; an empty cell without quotes is null.
"""

from pathlib import Path
from typing import Any

from pyarrow import csv

from hardness import files
from hardness.exporters.known import known

DEFAULT_NAME = "export.csv"
MARK = ("", b'"example_id","key",')
"""A file that every export has, and how it begins."""
_ROWS_AT_ONCE = 1 << 16


def write(path: Path, run: Path, info: dict[str, Any]) -> None:
    table = known(run, info)
    with files.replacing(path) as temporary, csv.CSVWriter(temporary, table.schema) as writer:
        for start in range(0, len(table), _ROWS_AT_ONCE):
            writer.write_table(table.slice(start, _ROWS_AT_ONCE))
