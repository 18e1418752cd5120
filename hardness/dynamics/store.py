"""Records on disk: ``dynamics/epoch=3/part-0.parquet`` in a run folder, readable by anything.

A record is one example in one epoch. An example whose image could not be read has null in every column but
its id. Every rank writes a part of its own; each part says how many there are. Files of the same columns
that another program wrote are read as well.
"""

import math
import re
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from hardness import files
from hardness.console import warn
from hardness.dynamics import marker
from hardness.errors import UserError

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
"""On disk: three numbers that hardly compress, and labels that do."""
_LABELS, _NUMBERS = ["given_label", "prediction"], ["loss", "margin", "el2n"]
_ROWS_PER_GROUP = 1 << 19
_LARGEST_INT32, _LARGEST_FLOAT32 = np.iinfo(np.int32).max, float(np.finfo(np.float32).max)
# The least and the largest value of a column, with room for rounding to 16 bits.
_POSSIBLE = {
    "given_label": (0, _LARGEST_INT32, "given labels from 0 on"),
    "prediction": (0, _LARGEST_INT32, "predictions from 0 on"),
    "loss": (-1e-3, _LARGEST_FLOAT32, "losses from 0 on that are finite"),
    "el2n": (-1e-3, math.sqrt(2) + 1e-2, "el2n from 0 to sqrt(2)"),
}


@dataclass(frozen=True)
class Records:
    """The records of one epoch as arrays over all examples, ordered by id.

    Where the image was unreadable ``loss``, ``margin`` and ``el2n`` are nan, and ``is_correct`` is False.
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
    def probability(self) -> np.ndarray:
        """(N,) float32: of the given label; its cross-entropy says it."""
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

    ``precision`` float16 says that loss, margin and EL2N are rounded to float16 values: those are so few
    that a dictionary of them is small. No reader lacks an encoding used here (DuckDB has no
    byte-stream-split of two bytes, Spark's vectorized reader none at all).
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
    """The epochs with at least one part, in order; those that are being written are waited for.

    One whose writer failed or was killed is left out, with a warning.
    """
    incomplete = marker.wait_for_writers(run / "dynamics")
    for epoch in sorted(incomplete):
        _warn_incomplete(run, epoch)
    return [epoch for epoch in _epochs_on_disk(run) if epoch not in incomplete]


@cache
def _warn_incomplete(run: Path, epoch: int) -> None:
    """Once: readers look more than once."""
    warn(f"epoch {epoch} in {run} was not written completely and is skipped")


def _epochs_on_disk(run: Path) -> list[int]:
    names = {part.parent.name for part in (run / "dynamics").glob("epoch=*/*.parquet")}
    return sorted(int(match[1]) for name in names if (match := re.fullmatch(r"epoch=(0|[1-9]\d*)", name)))


def is_whole(run: Path, epoch: int, fingerprint: str | None = None) -> bool:
    """Are all parts of the epoch there? (Of a stranger's, its ids will tell.)

    Raises ``UserError`` for a part that is cut off, or of another data set.
    """
    settings = [files.table_settings(part, fingerprint) for part in parts(run, epoch)]
    return len(settings) >= max(each.get("num_parts", len(settings)) for each in settings)


def drop_epochs_after(run: Path, epoch: int) -> int:
    """Remove the records of later epochs, which a resumed run makes again -> how many epochs those were."""
    dropped = [later for later in _epochs_on_disk(run) if later > epoch]
    for later in dropped:
        shutil.rmtree(epoch_folder(run, later))
    return len(dropped)


def read_epoch(run: Path, epoch: int, fingerprint: str | None = None) -> Records:
    """All parts of an epoch. Raises ``UserError`` unless they hold each of the ids 0..N-1 once.

    fingerprint: of the data set; None takes whatever is there.
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

    prediction, loss = column("prediction", -1), column("loss", np.nan)
    return Records(
        given_label=column("given_label", -1),
        prediction=prediction,
        loss=loss,
        margin=column("margin", np.nan),
        el2n=column("el2n", np.nan),
        is_readable=(prediction >= 0) & ~np.isnan(loss),
    )


def read_epochs(
    run: Path, fingerprint: str | None = None, last_epoch: int | None = None
) -> Iterator[tuple[int, Records]]:
    """Yield (epoch, records) in order, up to ``last_epoch``; while one is looked at, the next is read.

    Raises ``UserError`` where there are none, an epoch is missing, epochs differ in size, or a file is of
    another data set than the first.
    """
    epochs = [epoch for epoch in recorded_epochs(run) if last_epoch is None or epoch <= last_epoch]
    if not epochs:
        raise UserError(f"records in {run / 'dynamics'}", "none", "track a run there first")
    if epochs[0] == 0:
        raise UserError(f"epochs that begin with 1 in {run / 'dynamics'}", "epoch 0", "rename the folders")
    for expected, epoch in enumerate(epochs, start=1):
        if epoch != expected:
            found = f"no epoch {expected}"
            raise UserError(f"epochs 1..{epochs[-1]} in {run / 'dynamics'}", found, "restore it")
    fingerprint = fingerprint or files.fingerprint_of(parts(run, 1)[0])
    first = None
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(read_epoch, run, 1, fingerprint)
        for epoch in epochs:
            records = coming.result()
            if epoch < len(epochs):
                coming = reader.submit(read_epoch, run, epoch + 1, fingerprint)
            first = first or records
            _check_same(first, records, epoch_folder(run, epoch))
            yield epoch, records


def parts(run: Path, epoch: int) -> list[Path]:
    """The files of an epoch, in the order of their numbers, where they have any.

    What is being written of it is waited for.
    """
    marker.wait_for_writers(run / "dynamics", epoch)
    paths = epoch_folder(run, epoch).glob("*.parquet")
    return sorted(paths, key=lambda path: (int("".join(filter(str.isdigit, path.stem)) or 0), path.name))


def _read_part(path: Path, fingerprint: str | None) -> tuple[pa.Table, dict[str, Any]]:
    table, settings = files.read_with_settings(path, fingerprint, SCHEMA.names)
    if missing := [name for name in SCHEMA.names if name not in table.schema.names]:
        found = f"no column {missing[0]}"
        raise UserError(f"the columns {', '.join(SCHEMA.names)} in {path}", found, "write them all")
    try:
        table = table.select(SCHEMA.names).cast(SCHEMA)
    except (pa.ArrowException, ValueError) as error:
        found = str(error).splitlines()[0]
        raise UserError(f"the types {SCHEMA.types} in {path}", found, "write them so") from error
    _check_values(table, path)
    return table, settings


def _check_values(table: pa.Table, path: Path) -> None:
    """Raise ``UserError`` for a value that is impossible; null and nan are no values."""
    for name, (least, most, expected) in _POSSIBLE.items():
        values = table[name].to_numpy()
        is_impossible = (values < least) | (values > most)
        if is_impossible.any():
            row = int(is_impossible.argmax())
            found = f"{values[row]:g} of example {table['example_id'][row]}"
            raise UserError(f"{expected} in {path}", found, "correct it, or leave that record null")


def _check_parts(epoch: int, paths: Sequence[Path], settings: Sequence[dict]) -> None:
    """Ours say of which epoch they are, which part, and of how many."""
    known = [(path, each) for path, each in zip(paths, settings, strict=True) if "num_parts" in each]
    if not known:
        return
    num_parts = known[0][1]["num_parts"]
    expected = [f"part-{part}.parquet" for part in range(num_parts)]
    folder = paths[0].parent
    if missing := sorted(set(expected) - {path.name for path in paths}):
        do = "restore it, or track anew"
        raise UserError(f"{num_parts} parts in {folder}", f"no {missing[0]}", do)
    for path, each in known:
        if each.get("epoch") != epoch:
            do = "remove what is foreign, or track anew"
            raise UserError(f"epoch {epoch} in {path}", f"epoch {each.get('epoch')}", do)
        if path.name != f"part-{each.get('part')}.parquet" or each["num_parts"] != num_parts:
            found = f"part {each.get('part')} of {each['num_parts']} in {path.name}"
            raise UserError(f"part-0 to part-{num_parts - 1} in {folder}", found, "remove what is foreign")


def _check_ids(ids: np.ndarray, folder: Path) -> None:
    """Raise ``UserError`` unless each of 0..N-1 is there once, in any order."""
    known = ids[(ids >= 0) & (ids < len(ids))]
    counts = np.bincount(known, minlength=len(ids))
    if len(missing := np.flatnonzero(counts == 0)):
        raise UserError(
            f"every example id of 0..{len(ids) - 1} once in {folder}",
            f"{len(ids)} records, but none of {missing[0]}",
            "restore what is missing; ids begin with 0",
        )


def _check_same(first: Records, records: Records, folder: Path) -> None:
    """An epoch is of the same examples under the same given labels as the first one."""
    if (found := len(records.loss)) != (expected := len(first.loss)) or not found:
        do = "restore the missing part, or track anew"
        raise UserError(f"{expected or 'some'} records in {folder}", str(found), do)
    if (differs := records.given_label != first.given_label).any():
        found = f"others, of example {np.flatnonzero(differs)[0]} first"
        raise UserError(f"the given labels of epoch 1 in {folder}", found, "score each labelling by itself")
