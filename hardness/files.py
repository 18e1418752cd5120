"""Files that are whole or not there: written beside their place, then renamed onto it.

Every Parquet file carries the format version and the fingerprint of its data set, and is refused
where either is another's.
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
    """So that what was renamed first is there first, whenever the power goes."""
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


def read_json(path: Path, required: Iterable[str], do: str) -> dict[str, Any]:
    """A JSON object of this format version with those names in it; ``do`` is what else the user is told."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"JSON in {path}", str(error), do) from error
    version = value.get("format_version") if isinstance(value, dict) else None
    if version != FORMAT_VERSION:
        raise UserError(f"format version {FORMAT_VERSION} in {path}", f"format version {version}", do)
    if missing := sorted(set(required) - value.keys()):
        raise UserError(f"{', '.join(missing)} in {path}", "nothing of that name", do)
    return value


def write_table(
    path: Path,
    table: pa.Table | pd.DataFrame,
    fingerprint: str,
    settings: dict[str, Any] | None = None,
    **encoding: Any,
) -> None:
    """Write Parquet; ``settings`` (JSON) says how the table was made, ``encoding`` is pyarrow's."""
    if isinstance(table, pd.DataFrame):
        table = pa.Table.from_pandas(table, preserve_index=False)
    metadata = {
        **(table.schema.metadata or {}),
        _FORMAT: FORMAT_VERSION.encode(),
        _FINGERPRINT: fingerprint.encode(),
        _SETTINGS: json.dumps(settings or {}, sort_keys=True).encode(),
    }
    with replacing(path) as temporary:
        pq.write_table(
            table.replace_schema_metadata(metadata),
            temporary,
            compression="zstd",
            # Flipped bits are found when the file is read.
            write_page_checksum=True,
            **encoding,
        )


def read_table(path: Path, fingerprint: str | None = None, columns: list[str] | None = None) -> pa.Table:
    """Read one Parquet file; raise ``UserError`` where format version or fingerprint is another's."""
    with _opened(path, fingerprint) as file:
        return file.read(columns)


def column_names(path: Path, fingerprint: str | None = None) -> list[str]:
    """Of one Parquet file; raises ``UserError`` as ``read_table`` does."""
    with _opened(path, fingerprint) as file:
        return file.schema_arrow.names


def table_settings(path: Path, fingerprint: str | None = None) -> dict[str, Any]:
    """How the table at ``path`` was made: what ``write_table`` was given.

    Without a fingerprint another program's file will do; it has no settings.
    """
    with _opened(path, fingerprint, strangers=fingerprint is None) as file:
        return _settings(file)


def read_with_settings(
    path: Path, fingerprint: str | None, columns: list[str]
) -> tuple[pa.Table, dict[str, Any]]:
    """Those of the columns that are there, and the settings; the same holds."""
    with _opened(path, fingerprint, strangers=fingerprint is None) as file:
        return file.read([name for name in columns if name in file.schema_arrow.names]), _settings(file)


def fingerprint_of(path: Path) -> str | None:
    """None for a stranger's file."""
    with _opened(path, None, strangers=True) as file:
        found = (file.schema_arrow.metadata or {}).get(_FINGERPRINT)
        return None if found is None else found.decode()


@contextmanager
def _opened(path: Path, fingerprint: str | None, strangers: bool = False) -> Iterator[pq.ParquetFile]:
    if not path.is_file():
        raise UserError(f"a file {path}", "none there", "check the path, or run the stage that writes it")
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            metadata = file.schema_arrow.metadata or {}
            if not strangers or _FORMAT in metadata:
                _check(metadata, path, fingerprint)
            yield file
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        found = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"a whole Parquet file at {path}", found, "make it anew") from error


def _settings(file: pq.ParquetFile) -> dict[str, Any]:
    return json.loads((file.schema_arrow.metadata or {}).get(_SETTINGS, b"{}"))


def _check(metadata: dict[bytes, bytes], path: Path, fingerprint: str | None) -> None:
    version = metadata.get(_FORMAT, b"none").decode()
    if version != FORMAT_VERSION:
        raise UserError(
            f"format version {FORMAT_VERSION} in {path}",
            f"format version {version}",
            "make the run anew with this version of hardness",
        )
    found = metadata[_FINGERPRINT].decode()
    if fingerprint is not None and found != fingerprint:
        raise UserError(
            f"data set {fingerprint} in {path}",
            f"data set {found}",
            "don't mix files of two data sets in one folder",
        )
