"""Records on disk: ``dynamics/epoch=3/part-0.parquet`` in a run folder, readable by any Parquet reader.

A record is one example in one epoch. An example whose image could not be read is null in every column except
its id. Where only losses were recorded, margin, EL2N and perhaps predictions are null for all examples. Every
rank writes its own part, which stores the number of parts. Files with the same columns written by another
program can be read as well.
"""

import math
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from hardness import files
from hardness.console import warn
from hardness.dynamics import marker
from hardness.errors import UserError
from hardness.prefetch import prefetch

SCHEMA = pa.schema(
    [
        ("example_id", pa.int64()),
        ("given_label", pa.int32()),
        ("prediction", pa.int32()),
        ("loss", pa.float32()),
        ("margin", pa.float32()),
        ("el2n", pa.float32()),
    ]
)
BYTES_PER_RECORD = {"float16": 7, "float32": 12}
"""On disk: three numbers that hardly compress, and labels that compress well."""
_LABELS, _NUMBERS = ["given_label", "prediction"], ["loss", "margin", "el2n"]
_ROWS_PER_GROUP = 1 << 19
_LARGEST_INT32, _LARGEST_FLOAT32 = np.iinfo(np.int32).max, float(np.finfo(np.float32).max)
# Smallest and largest value of a column, with a tolerance for rounding to 16 bits.
_POSSIBLE = {
    "given_label": (0, _LARGEST_INT32, "at least 0"),
    "prediction": (0, _LARGEST_INT32, "at least 0"),
    "loss": (-1e-3, _LARGEST_FLOAT32, "finite and at least 0"),
    "el2n": (-1e-3, math.sqrt(2) + 1e-2, "between 0 and sqrt(2)"),
}
# Readers list the epochs repeatedly.
_warn_once = cache(warn)


@dataclass(frozen=True)
class Records:
    """The records of one epoch as arrays over all examples, ordered by id.

    If the image was unreadable, ``loss``, ``margin`` and ``el2n`` are nan and ``is_correct`` is False.
    Unknown labels and predictions are -1.
    """

    given_label: np.ndarray
    prediction: np.ndarray
    loss: np.ndarray
    margin: np.ndarray
    el2n: np.ndarray
    is_readable: np.ndarray

    @cached_property
    def is_correct(self) -> np.ndarray:
        """(N,) bool: the prediction equals the given label."""
        return self.is_readable & (self.prediction == self.given_label)

    @cached_property
    def known(self) -> set[str]:
        """What was recorded of "loss", "prediction" and "logits"."""
        is_known = {"loss": True, "prediction": self.prediction >= 0, "logits": ~np.isnan(self.margin)}
        return {name for name, where in is_known.items() if np.any(where)}

    @cached_property
    def is_complete(self) -> bool:
        """Does every example have a record in this epoch?"""
        return bool(self.is_readable.all())

    @cached_property
    def probability(self) -> np.ndarray:
        """(N,) float32: probability of the given label, from its cross-entropy."""
        return np.exp(-self.loss)


def epoch_folder(run: Path, epoch: int) -> Path:
    return run / "dynamics" / f"epoch={epoch}"


def write_part(
    run: Path,
    epoch: int,
    table: pa.Table,
    fingerprint: str,
    *,
    part: int = 0,
    num_parts: int = 1,
    precision: str = "float16",
) -> None:
    """Write one rank's records of an epoch: a table of ``SCHEMA``, sorted by example id.

    ``precision`` float16 means that loss, margin and EL2N are rounded to float16 values, so few that a
    dictionary of them is small. All readers support the encodings used here (DuckDB has no two-byte
    byte-stream-split, Spark's vectorized reader has none at all).
    """
    files.write_table(
        epoch_folder(run, epoch) / f"part-{part}.parquet",
        table,
        fingerprint,
        {"epoch": epoch, "part": part, "num_parts": num_parts, "precision": precision},
        compression_level=6,
        row_group_size=_ROWS_PER_GROUP,
        use_dictionary=_LABELS + (_NUMBERS if precision == "float16" else []),
        column_encoding={"example_id": "DELTA_BINARY_PACKED"},
    )


def recorded_epochs(run: Path) -> list[int]:
    """The epochs with at least one part, in order. Waits for those that are being written.

    An epoch whose writer failed or was killed is skipped, with a warning.
    """
    incomplete = marker.wait_for_writers(run / "dynamics")
    for epoch in sorted(incomplete):
        _warn_once(f"epoch {epoch} in {run} is incomplete: skipped")
    return [epoch for epoch in _epochs_on_disk(run) if epoch not in incomplete]


def _epochs_on_disk(run: Path) -> list[int]:
    names = {part.parent.name for part in (run / "dynamics").glob("epoch=*/*.parquet")}
    return sorted(int(match[1]) for name in names if (match := re.fullmatch(r"epoch=(0|[1-9]\d*)", name)))


def is_whole(run: Path, epoch: int, fingerprint: str | None = None) -> bool:
    """Do all parts of the epoch exist? (Another program's parts are checked by their ids when read.)

    Raises ``UserError`` for a part that is truncated or of another data set.
    """
    settings = [files.table_settings(part, fingerprint) for part in parts(run, epoch)]
    return len(settings) >= max(each.get("num_parts", len(settings)) for each in settings)


def drop_epochs_after(run: Path, epoch: int) -> int:
    """Delete the records of later epochs, which a resumed run records again -> the number of those epochs."""
    dropped = [later for later in _epochs_on_disk(run) if later > epoch]
    for later in dropped:
        shutil.rmtree(epoch_folder(run, later))
    return len(dropped)


def read_epoch(run: Path, epoch: int, fingerprint: str | None = None) -> Records:
    """All parts of an epoch. Raises ``UserError`` unless they contain each of the ids 0..N-1 once.

    fingerprint: of the data set; None accepts any.
    """
    paths = parts(run, epoch)
    tables, settings = zip(*(_read_part(path, fingerprint) for path in paths), strict=True)
    _check_parts(epoch, paths, settings)
    table = pa.concat_tables(tables)
    ids = table["example_id"].to_numpy()
    is_in_order = bool(np.array_equal(ids, np.arange(len(ids))))
    if not is_in_order:
        _check_ids(ids, epoch_folder(run, epoch))

    def column(name: str, missing: float) -> np.ndarray:
        values = table[name]
        values = (values.fill_null(missing) if values.null_count else values).to_numpy()
        if is_in_order:
            return values
        by_id = np.empty_like(values)
        by_id[ids] = values
        return by_id

    labels = {name: column(name, -1) for name in _LABELS}
    numbers = {name: column(name, np.nan) for name in _NUMBERS}
    is_readable, is_predicted = ~np.isnan(numbers["loss"]), labels["prediction"] >= 0
    if is_predicted.any():
        is_readable &= is_predicted
    return Records(**labels, **numbers, is_readable=is_readable)


def read_epochs(
    run: Path, fingerprint: str | None = None, last_epoch: int | None = None
) -> Iterator[tuple[int, Records]]:
    """Yield (epoch, records) in order, up to ``last_epoch``; the next epoch is read in the background.

    Raises ``UserError`` if there are no records, an epoch is missing, epochs differ in size, or a file
    belongs to another data set than the first.
    """
    epochs = [epoch for epoch in recorded_epochs(run) if last_epoch is None or epoch <= last_epoch]
    _check_numbers(epochs, run / "dynamics")
    fingerprint = fingerprint or files.fingerprint_of(parts(run, 1)[0])
    labels = np.empty(0, np.int32)
    read = prefetch(partial(read_epoch, run, fingerprint=fingerprint), epochs, depth=1)
    for epoch, records in zip(epochs, read, strict=True):
        labels = records.given_label.copy() if epoch == 1 else labels
        _check_same(labels, records, epoch_folder(run, epoch))
        if not records.is_complete:
            np.copyto(labels, records.given_label, where=labels < 0)
        yield epoch, records


def parts(run: Path, epoch: int) -> list[Path]:
    """The files of an epoch, ordered by the number in their names. Waits for those that are being written."""
    marker.wait_for_writers(run / "dynamics", epoch)
    paths = epoch_folder(run, epoch).glob("*.parquet")
    return sorted(paths, key=lambda path: (int("".join(filter(str.isdigit, path.stem)) or 0), path.name))


def _read_part(path: Path, fingerprint: str | None) -> tuple[pa.Table, dict[str, Any]]:
    table, settings = files.read_with_settings(path, fingerprint, SCHEMA.names)
    if missing := [name for name in SCHEMA.names if name not in table.schema.names]:
        sentence = "{path} has no column {column}."
        hint = f"Records have the columns {', '.join(SCHEMA.names)}."
        raise UserError("missing-record-column", sentence, hint, path=str(path), column=missing[0])
    try:
        table = table.select(SCHEMA.names).cast(SCHEMA)
    except (pa.ArrowException, ValueError) as error:
        sentence, reason = "{path} has columns of other types: {reason}.", str(error).splitlines()[0]
        hint = f"Write {', '.join(f'{field.name} as {field.type}' for field in SCHEMA)}."
        raise UserError("wrong-record-types", sentence, hint, path=str(path), reason=reason) from error
    _check_values(table, path)
    return table, settings


def _check_values(table: pa.Table, path: Path) -> None:
    """Raise ``UserError`` for an impossible value; null and nan are allowed."""
    for name, (least, most, allowed) in _POSSIBLE.items():
        values = table[name].to_numpy()
        is_impossible = (values < least) | (values > most)
        if is_impossible.any():
            row = int(is_impossible.argmax())
            sentence = "{column} of example {example} in {path} is {value:g}; it must be {allowed}."
            found = {"column": name, "example": table["example_id"][row].as_py(), "value": values[row].item()}
            hint = "Correct it, or set this record to null."
            raise UserError("impossible-record", sentence, hint, **found, path=str(path), allowed=allowed)


def _check_numbers(epochs: Sequence[int], folder: Path) -> None:
    """Raise ``UserError`` unless the epochs are 1..T with T > 0."""
    if not epochs:
        raise no_records(folder)
    if epochs[0] == 0:
        sentence = "The first epoch in {folder} is epoch 0."
        raise UserError("epoch-0", sentence, "Rename the folders: epochs start at 1.", folder=str(folder))
    if missing := sorted({*range(1, epochs[-1])}.difference(epochs)):
        sentence, values = "{folder} has no epoch {epoch}.", {"folder": str(folder), "epoch": missing[0]}
        raise UserError("missing-epoch", sentence, "Restore it.", **values)


def no_records(folder: Path, hint: str = "Track a run there first.") -> UserError:
    return UserError("no-records", "{folder} has no records.", hint, folder=str(folder))


def _check_parts(epoch: int, paths: Sequence[Path], settings: Sequence[dict]) -> None:
    """Parts that we wrote store their epoch, their number, and the number of parts."""
    known = {path: each for path, each in zip(paths, settings, strict=True) if "num_parts" in each}
    num_parts = next((each["num_parts"] for each in known.values()), 0)
    expected = {f"part-{part}.parquet" for part in range(num_parts)}
    if missing := sorted(expected - {path.name for path in paths}):
        sentence = "{part}, one of {num_parts} parts, is missing in {folder}."
        values = {"part": missing[0], "num_parts": num_parts, "folder": str(paths[0].parent)}
        raise UserError("missing-part", sentence, "Restore it, or track the run again.", **values)
    for path, each in known.items():
        is_in_place = each.get("epoch") == epoch and path.name == f"part-{each.get('part')}.parquet"
        if not (is_in_place and each["num_parts"] == num_parts):
            sentence = "{path} was written as part {part} of {num_parts} of epoch {epoch}."
            hint = "Remove it if it belongs to another run, or track the run again."
            written = {name: each.get(name) for name in ("part", "num_parts", "epoch")}
            raise UserError("misplaced-part", sentence, hint, path=str(path), **written)


def _check_ids(ids: np.ndarray, folder: Path) -> None:
    """Raise ``UserError`` unless each of 0..N-1 occurs once, in any order."""
    known = ids[(ids >= 0) & (ids < len(ids))]
    if len(missing := np.flatnonzero(np.bincount(known, minlength=len(ids)) == 0)):
        sentence = "{folder} has {num_records} records, but none of example {example}."
        hint = "Restore it: every id from 0 to the number of examples - 1 must occur once."
        values = {"folder": str(folder), "num_records": len(ids), "example": int(missing[0])}
        raise UserError("missing-example", sentence, hint, **values)


def _check_same(labels: np.ndarray, records: Records, folder: Path) -> None:
    """Raise ``UserError`` unless the epoch has the examples and given labels (-1: unknown) of others."""
    if not len(labels):
        raise no_records(folder)
    if len(records.loss) != len(labels):
        sentence = "{folder} has {found} records, but epoch 1 has {expected}."
        hint = "Restore the missing part, or track the run again."
        values = {"folder": str(folder), "found": len(records.loss), "expected": len(labels)}
        raise UserError("epoch-sizes-differ", sentence, hint, **values)
    known = (records.given_label >= 0) & (labels >= 0)
    if (differs := known & (records.given_label != labels)).any():
        sentence = "The given label of example {example} in {folder} is not that of epoch 1."
        values = {"example": int(np.flatnonzero(differs)[0]), "folder": str(folder)}
        raise UserError("labels-differ", sentence, "Score runs with other labels separately.", **values)
