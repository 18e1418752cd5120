"""Records on disk: ``dynamics/epoch=3/part-0.parquet`` in a run folder, readable by anything.

A record is one example in one epoch. An example whose image could not be read has null in every column
but its id and label.
"""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from hardness import files
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


@dataclass(frozen=True)
class Records:
    """The records of one epoch as arrays over all examples, ordered by id.

    ``loss``, ``margin`` and ``el2n`` are nan, and ``is_correct`` False, where the image was unreadable.
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
        """(N,) float64: of the given label; its cross-entropy says it."""
        return np.exp(-self.loss.astype(np.float64))


def epoch_folder(run: Path, epoch: int) -> Path:
    return run / "dynamics" / f"epoch={epoch}"


def write_epoch(run: Path, epoch: int, columns: dict[str, pa.Array], fingerprint: str, rank: int = 0) -> None:
    """Write the records of one rank, sorted by example id."""
    table = pa.table(columns).select(SCHEMA.names).cast(SCHEMA).sort_by("example_id")
    files.write_table(epoch_folder(run, epoch) / f"part-{rank}.parquet", table, fingerprint)


def recorded_epochs(run: Path) -> list[int]:
    """The epochs with at least one part, in order."""
    names = (folder.parent.name for folder in (run / "dynamics").glob("epoch=*/part-*.parquet"))
    return sorted({int(match[1]) for name in names if (match := re.fullmatch(r"epoch=(\d+)", name))})


def drop_epochs_after(run: Path, epoch: int) -> None:
    """Remove the records of later epochs, which a resumed run makes again."""
    for later in recorded_epochs(run):
        if later > epoch:
            shutil.rmtree(epoch_folder(run, later))


def read_epoch(run: Path, epoch: int, fingerprint: str | None = None) -> Records:
    """All parts of an epoch. Raises ``UserError`` unless they hold each of the ids 0..N-1 once."""
    parts = sorted(epoch_folder(run, epoch).glob("part-*.parquet"))
    table = pa.concat_tables([files.read_table(part, fingerprint) for part in parts]).sort_by("example_id")
    ids = table["example_id"].to_numpy()
    if not np.array_equal(ids, np.arange(len(ids))):
        raise UserError(
            f"every example id of 0..{ids.max()} once in {epoch_folder(run, epoch)}",
            f"{len(ids)} records, {len(np.unique(ids))} ids",
            "restore the missing part, or track anew",
        )
    is_readable = table["prediction"].is_valid().to_numpy()

    def column(name: str, missing: float) -> np.ndarray:
        return table[name].fill_null(missing).to_numpy()

    return Records(
        given_label=table["given_label"].to_numpy(),
        prediction=column("prediction", -1),
        loss=column("loss", np.nan),
        margin=column("margin", np.nan),
        el2n=column("el2n", np.nan),
        is_readable=is_readable,
    )


def read_epochs(run: Path, fingerprint: str | None = None) -> Iterator[tuple[int, Records]]:
    """Yield (epoch, records) in order, one epoch in memory at a time.

    Raises ``UserError`` where there are none, an epoch is missing, or epochs differ in size.
    """
    epochs = recorded_epochs(run)
    if not epochs:
        raise UserError(f"records in {run / 'dynamics'}", "none", "track a run there first")
    if epochs != list(range(1, len(epochs) + 1)):
        missing = sorted(set(range(1, epochs[-1])) - set(epochs))
        raise UserError(
            f"epochs 1..{epochs[-1]} in {run / 'dynamics'}", f"no epoch {missing[0]}", "restore it"
        )
    num_examples = None
    for epoch in epochs:
        records = read_epoch(run, epoch, fingerprint)
        num_examples = num_examples or len(records.loss)
        if len(records.loss) != num_examples:
            raise UserError(
                f"{num_examples} records in {epoch_folder(run, epoch)}",
                str(len(records.loss)),
                "restore the missing part, or track anew",
            )
        yield epoch, records
