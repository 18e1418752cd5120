"""Atomic writes: each file is written under a temporary name, then renamed into place.

Every Parquet file has the format version and the fingerprint of its data set in its metadata; reading
raises ``UserError`` if either differs.
"""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from hardness.errors import UserError

FORMAT_VERSION = "1"
_FORMAT, _FINGERPRINT, _SETTINGS = b"hardness.format", b"hardness.fingerprint", b"hardness.settings"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; rename it onto ``path`` if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.writing"
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make renames durable in their order, in case of a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path, required: Iterable[str], hint: str) -> dict[str, Any]:
    """A JSON object of this format version with the required keys; ``hint`` is that of the errors."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        sentence = "{path} is not valid JSON ({reason})."
        raise UserError("invalid-json", sentence, hint, path=str(path), reason=str(error)) from error
    _check_version(path, value.get("format_version") if isinstance(value, dict) else None, hint)
    if missing := ", ".join(sorted(set(required) - value.keys())):
        raise UserError("missing-json-keys", "{path} lacks {missing}.", hint, path=str(path), missing=missing)
    return value


def _check_version(path: Path, found: str | None, hint: str) -> None:
    if found != FORMAT_VERSION:
        sentence = "{path} has format version {found}, but this version of hardness reads {expected}."
        values = {"path": str(path), "found": found, "expected": FORMAT_VERSION}
        raise UserError("other-format-version", sentence, hint, **values)


def write_table(
    path: Path,
    table: pa.Table | pd.DataFrame,
    fingerprint: str,
    settings: dict[str, Any] | None = None,
    **encoding: Any,
) -> None:
    """Write Parquet; ``settings`` (JSON) records how the table was made, ``encoding`` goes to pyarrow."""
    if isinstance(table, pd.DataFrame):
        table = pa.Table.from_pandas(table, preserve_index=False)
    metadata = {
        **(table.schema.metadata or {}),
        _FORMAT: FORMAT_VERSION.encode(),
        _FINGERPRINT: fingerprint.encode(),
        _SETTINGS: json.dumps(settings or {}, sort_keys=True).encode(),
    }
    table = table.replace_schema_metadata(metadata)
    with replacing(path) as temporary:
        # Page checksums: reading detects flipped bits.
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True, **encoding)


def read_table(path: Path, fingerprint: str | None = None, columns: list[str] | None = None) -> pa.Table:
    """Read one Parquet file; raise ``UserError`` if its format version or fingerprint differs."""
    with _opened(path, fingerprint) as file:
        return file.read(columns)


def column_names(path: Path, fingerprint: str | None = None) -> list[str]:
    """Column names of one Parquet file; raises ``UserError`` as ``read_table`` does."""
    with _opened(path, fingerprint) as file:
        return file.schema_arrow.names


def table_settings(path: Path, fingerprint: str | None = None) -> dict[str, Any]:
    """The ``settings`` that ``write_table`` was given for the table at ``path``.

    Without a fingerprint, files of other programs are accepted; they have no settings.
    """
    return read_with_settings(path, fingerprint, [])[1]


def read_with_settings(
    path: Path, fingerprint: str | None, columns: list[str]
) -> tuple[pa.Table, dict[str, Any]]:
    """The columns that exist, and the settings; see ``table_settings``."""
    with _opened(path, fingerprint, foreign=fingerprint is None) as file:
        table = file.read([name for name in columns if name in file.schema_arrow.names])
        return table, json.loads((file.schema_arrow.metadata or {}).get(_SETTINGS, b"{}"))


def fingerprint_of(path: Path) -> str | None:
    """None for a file of another program."""
    with _opened(path, None, foreign=True) as file:
        found = (file.schema_arrow.metadata or {}).get(_FINGERPRINT)
        return None if found is None else found.decode()


@contextmanager
def _opened(path: Path, fingerprint: str | None, foreign: bool = False) -> Iterator[pq.ParquetFile]:
    """``foreign``: accept files that hardness did not write."""
    if not path.is_file():
        raise no_such_file(path, "Check the path, or run the stage that writes it.")
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            metadata = file.schema_arrow.metadata or {}
            if not foreign or _FORMAT in metadata:
                _check(metadata, path, fingerprint)
            yield file
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise damaged_parquet(path, error) from error


def no_such_file(path: Path, hint: str) -> UserError:
    return UserError("no-such-file", "There is no file {path}.", hint, path=str(path))


def damaged_parquet(path: str | Path, error: Exception) -> UserError:
    reason = (str(error) or type(error).__name__).splitlines()[0]
    sentence, hint = "{path} is not a complete Parquet file ({reason}).", "Restore it or write it again."
    return UserError("damaged-parquet", sentence, hint, path=str(path), reason=reason)


def _check(metadata: dict[bytes, bytes], path: Path, fingerprint: str | None) -> None:
    hint = "Repeat the run with this version of hardness."
    _check_version(path, metadata.get(_FORMAT, b"none").decode(), hint)
    found = metadata[_FINGERPRINT].decode()
    if fingerprint is not None and found != fingerprint:
        sentence = "{path} belongs to data set {found}, not {expected}."
        hint = "Do not mix files of two data sets in one folder."
        values = {"path": str(path), "found": found, "expected": fingerprint}
        raise UserError("other-data-set", sentence, hint, **values)
