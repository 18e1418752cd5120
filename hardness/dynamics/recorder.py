"""The Recorder: three tensors a batch in, one Parquet file an epoch and rank out."""

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from hardness.console import remark, warn
from hardness.dynamics import marker, store
from hardness.dynamics.batch import as_batch, check_labels, wrong_label
from hardness.dynamics.record import finish, reduce
from hardness.dynamics.writer import Writer
from hardness.errors import UserError
from hardness.ranks import Ranks, of_process_group

_LARGEST_HALF = 65504.0


def _ids(unreadable: Any, num_examples: int) -> np.ndarray:
    found = np.asarray([*unreadable], dtype=object)
    for each in found:
        if not (isinstance(each, int | np.integer) and 0 <= each < num_examples):
            raise ValueError(f"unreadable must be example ids of 0..{num_examples - 1}, not {each!r}")
    return found.astype(np.int64)


@dataclass(frozen=True)
class Recorded:
    """What an epoch's records say, over the readable examples of all ranks."""

    num_examples: int
    loss: float
    """Mean, in nats."""
    accuracy: float
    """Share of correct predictions."""
    learned: float
    """Share whose prediction was correct in this epoch or an earlier one."""


class Recorder:
    """Records what a network makes of every example, every epoch, from anyone's training loop.

    ::

        with Recorder("runs/mine", num_examples=50_000, device="cuda") as recorder:
            for epoch in range(90):
                for images, labels, example_ids in loader:
                    recorder.update(example_ids, model(images), labels)
                recorder.end_epoch()

    Every example must come by exactly once an epoch. ``update`` has no loop over examples and never waits
    for the device; the records are written by a thread of their own while training goes on. ``scores()`` and
    the other readers of a run wait for that thread, also in another process.

    To resume from your own checkpoints: call ``flush()`` before you save one, and pass the epoch of the
    checkpoint, counted from 1, when you start (0 if there is none)::

        with Recorder("runs/mine", 50_000, resume=True, last_epoch=start) as recorder:
            for epoch in range(start + 1, 91):
                ...
                recorder.end_epoch()
                recorder.flush()
                torch.save({"epoch": epoch, ...}, "last.pt")

    In a process group of several ranks every rank has a Recorder and hands in what it sees; each writes its
    own part. All must make theirs, and end every epoch, together. An example that several ranks see, as where
    a sampler fills up the last batch, is the lowest one's. A rank must not see an example twice.

    path: the run folder; records go to ``path/dynamics/epoch=N/part-RANK.parquet``.
    num_examples: example ids are 0..num_examples-1.
    device: where logits are; 58 bytes an example are kept there (on CUDA, and 28 on the host).
    resume: continue after the last complete epoch recorded in ``path``. Without it, existing records are
        refused.
    overwrite: drop the existing records and start with epoch 1. Together with ``resume`` it only permits
        ``last_epoch=0``, and another run's records are still refused.
    last_epoch: with ``resume``, continue after this epoch; the records of later epochs are dropped, and their
        number is printed. 0 is refused if there are records, unless ``overwrite`` is given.
    unreadable: ids that will never come; they are recorded as null.
    fingerprint: of the data set; kept in every file, and checked when a folder is opened again.
    ranks: the processes that record together; by default the process group that the program has started.
    precision: float16 rounds loss, margin and EL2N to float16 values (about 7 bytes a record), float32 keeps
        them whole (about 12).

    Raises ``UserError`` for a folder with records of another run, for one that can't be written to and, from
    any call, once an epoch could not be written.
    """

    def __init__(
        self,
        path: str | Path,
        num_examples: int,
        device: torch.device | str = "cpu",
        resume: bool = False,
        overwrite: bool = False,
        *,
        last_epoch: int | None = None,
        unreadable: np.ndarray | None = None,
        fingerprint: str = "",
        precision: str = "float16",
        ranks: Ranks | None = None,
    ):
        if precision not in ("float16", "float32"):
            raise ValueError(f"precision must be float16 or float32, not {precision!r}")
        if not (last_epoch is None or (type(last_epoch) is int and last_epoch >= 0)):
            raise ValueError(f"last_epoch must be a whole number from 0 on, not {last_epoch!r}")
        if last_epoch and not resume:
            raise ValueError(f"last_epoch={last_epoch} needs resume=True")
        device = torch.device(device)
        self.ranks = of_process_group() if ranks is None else ranks
        if (
            self.ranks.is_many
            and device.type == "cpu"
            and torch.distributed.get_backend(self.ranks.group) == "nccl"
        ):
            raise ValueError("in a group of NCCL's the Recorder's device must be CUDA")
        self.path = Path(path)
        self.num_examples = num_examples
        self.fingerprint = fingerprint
        self.precision = precision
        # Another rank may still be writing what an earlier recorder has seen.
        self.ranks.barrier()
        self.epoch = self.ranks.on_first(lambda: self._begin(resume, overwrite, last_epoch)) + 1
        self._writer = Writer(self.path / "dynamics")
        self._is_unreadable = np.zeros(num_examples, bool)
        if unreadable is not None:
            self._is_unreadable[_ids(unreadable, num_examples)] = True
        # Also where a loop in inference mode makes it, it must take what comes outside of that.
        with torch.inference_mode(False):
            self._is_readable = torch.from_numpy(~self._is_unreadable).to(device)
            # Of all examples, on every rank: which of them sees one changes with the epochs.
            self._is_learned = torch.from_numpy(self._learned_before()).to(device)
            # A row an example, all zero until it comes: label, prediction, what finish() takes, times seen.
            # All float32, which holds labels of up to 2^24 classes. Ids out of range fall into the first row
            # and the last. Filled, since torch.zeros leaves it to the first epoch to get the memory. Two of
            # them: the last epoch's is written while the next one's is filled.
            self._rows, self._spare = (
                torch.empty(num_examples + 2, 7, device=device).zero_() for _ in range(2)
            )
            if device.type == "cuda":
                self._copying = torch.cuda.Stream(device)
                self._pinned = torch.empty_like(self._rows, device="cpu", pin_memory=True)
        self._least_id = self._greatest_id = torch.zeros((), dtype=torch.int64, device=device)
        # Elsewhere that would make the host wait: such labels are marked, and end_epoch() raises.
        self._checks_labels_at_once = device.type == "cpu"
        self._workspace: Tensor | None = None
        self._is_begun = False
        """Has anything of this epoch come by?"""

    def _begin(self, resume: bool, overwrite: bool, last_epoch: int | None) -> int:
        """Check and clear the folder -> the epoch after which to go on."""
        recorded = store.recorded_epochs(self.path)
        last_epoch = self._resumed_epoch(recorded, overwrite, last_epoch) if resume else 0
        if recorded and not (resume or overwrite):
            do = "choose another folder, continue with resume=True, or drop them with overwrite=True"
            raise UserError(f"no records yet in {self.path}", f"{len(recorded)} epochs", do)
        folder = self.path / "dynamics"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise UserError(f"to write records to {folder}", str(error), "choose another folder") from error
        if dropped := store.drop_epochs_after(self.path, last_epoch):
            epochs = "1 epoch" if dropped == 1 else f"{dropped} epochs"
            after = f" after epoch {last_epoch}" if last_epoch else ""
            remark(f"dropped the records of {epochs}{after} in {self.path}")
        marker.clear(folder)
        return last_epoch

    def _resumed_epoch(self, recorded: list[int], overwrite: bool, last_epoch: int | None) -> int:
        """Check that these epochs are of this run -> the one after which to go on."""
        whole = [epoch for epoch in recorded if store.is_whole(self.path, epoch, self.fingerprint)]
        if whole:
            found = len(store.read_epoch(self.path, whole[0], self.fingerprint).loss)
            if found != self.num_examples:
                expected = f"{self.num_examples} examples in {self.path}"
                raise UserError(expected, str(found), "choose another folder")
        if last_epoch is None and whole:
            last_epoch = whole[-1]
            remark(f"{self.path} holds {last_epoch} epochs: recording goes on with the next one")
        if recorded and last_epoch == 0 and not overwrite:
            raise UserError(
                f"no records yet in {self.path}, as last_epoch is 0",
                f"{len(recorded)} epochs",
                "leave last_epoch out to continue after them, or drop them with overwrite=True",
            )
        last_epoch = last_epoch or 0
        if missing := sorted(set(range(1, last_epoch + 1)) - set(whole)):
            raise UserError(
                f"whole records of epochs 1..{last_epoch} in {self.path}",
                f"none of epoch {missing[0]}",
                "restore them, or record anew elsewhere; before a checkpoint is saved, flush()",
            )
        return last_epoch

    def _learned_before(self) -> np.ndarray:
        """(N,) bool: the examples whose prediction was correct in an epoch that is on disk."""
        is_learned = np.zeros(self.num_examples, bool)
        if self.epoch > 1:
            for _, records in store.read_epochs(self.path, self.fingerprint, self.epoch - 1):
                is_learned |= records.is_correct
        return is_learned

    # Which costs less than no_grad: what is made here is of no use to autograd.
    @torch.inference_mode()
    def update(self, example_ids: Any, logits: Any, labels: Any) -> None:
        """Record a batch. example_ids: (B,); logits: (B, C); labels: (B,), class indices 0..C-1.

        Tensors, NumPy arrays and lists are accepted: ids of any integer dtype, logits of any real dtype, and
        labels of any real dtype if they are whole numbers. Tensors on another device are moved. Logits (B, 1)
        are those of a binary classifier, as for ``BCEWithLogitsLoss``: they are recorded as the two logits 0
        and z; labels are 0 or 1, of shape (B,) or (B, 1).

        Raises ``ValueError`` for other shapes and ``TypeError`` for other dtypes. A label that is not a class
        is a ``ValueError`` too: raised here on a CPU, where nothing of the batch is recorded, and by
        ``end_epoch()`` on other devices.
        """
        self._writer.check()
        ids, logits, labels = as_batch(example_ids, logits, labels, self._rows.device)
        batch_size, num_classes = logits.shape
        if batch_size == 0:
            return
        classes = labels.long()
        if self._checks_labels_at_once:
            check_labels(labels, ids, num_classes)
        else:
            classes = classes.clamp(0, num_classes - 1)
        self._is_begun = True
        prediction, lead, rival, *sums = reduce(logits, classes, self._workspace_for(logits))
        if not self._checks_labels_at_once:
            # No rival is above 0: one that is marks a label that is not a class, and says of how many.
            rival = torch.where(classes != labels, num_classes, rival)
        columns = [labels.float(), prediction.float(), lead, rival, *sums, torch.ones_like(lead)]
        # Adding to zeros is writing, and counts at once.
        self._rows.index_add_(0, (ids + 1).clamp_(0, self.num_examples + 1), torch.stack(columns).T)
        least, greatest = ids.aminmax()
        self._least_id = torch.minimum(self._least_id, least)
        self._greatest_id = torch.maximum(self._greatest_id, greatest)

    def _workspace_for(self, logits: Tensor) -> Tensor:
        """Float32, as large as the logits: on a CPU new memory costs as much as a third of the work in it."""
        known = self._workspace
        batch_size, num_classes = logits.shape
        if known is None or known.shape[0] < batch_size or known.shape[1] != num_classes:
            with torch.inference_mode(False):
                known = self._workspace = torch.empty(logits.shape, device=logits.device)
        return known if known.shape[0] == batch_size else known[:batch_size]

    @torch.no_grad()
    def end_epoch(self) -> Recorded:
        """Hand the epoch's records over to be written, and begin the next. Waits for the device.

        Raises ``ValueError``, on all ranks, unless every example but the unreadable came by exactly once,
        with a label that is a class and a loss that is a number.
        """
        self._writer.check()
        _, _, *sums, _ = self._rows[1:-1].unbind(1)
        losses, _, _ = finish(*sums)
        mine = self._settle(losses)
        rank, ranks = self.ranks.rank, self.ranks.size
        part = {"part": rank, "num_parts": ranks, "precision": self.precision}
        with self._writer.mark(self.epoch, rank) as mark:
            # Ranks meet in here: after it, the marks of all are there.
            summary = self._summary(mine, losses)
            self._rows[1:-1, -1] = mine.float()
            self._writer.start(self._write, mark.pop_all(), self.epoch, part, *self._to_host())
        self._rows, self._spare = self._spare.zero_(), self._rows
        self._least_id = self._greatest_id = torch.zeros_like(self._least_id)
        self._is_begun = False
        self.epoch += 1
        return summary

    def _settle(self, losses: Tensor) -> Tensor:
        """(N,) bool: the examples whose records this rank writes. Counts those of all ranks as learned."""
        rank, ranks = self.ranks.rank, self.ranks.size
        label, prediction, _, rival, *_, times_seen = self._rows[1:-1].unbind(1)
        is_seen = times_seen > 0
        problems = {
            "unreadable but recorded": is_seen & ~self._is_readable,
            "repeated": times_seen > 1,
            "with a label that is not a class": rival > 0,
            "with a loss that is not finite": is_seen & ~losses.isfinite(),
        }
        num_outside = self._rows[0, -1] + self._rows[-1, -1]
        num_problems = torch.stack([problem.sum() for problem in problems.values()]).sum() + num_outside
        # Twice the lowest rank that saw each example, and one if it is wrong there; behind them, less than
        # nothing if a rank has a complaint.
        found = torch.where(is_seen, 2 * rank + (prediction != label), 2 * ranks + 1).int()
        found, complaint = self.ranks.reduce(
            torch.cat([found, -num_problems.int().view(1)]), "min"
        ).tensor_split([-1])
        owner, is_wrong = found >> 1, found & 1
        problems["missing"] = (owner == ranks) & self._is_readable
        if torch.cat([complaint, problems["missing"]]).any().item():
            raise ValueError(self._complaint(int(num_outside), problems))
        self._is_learned |= is_wrong == 0
        return (owner == rank) | (~self._is_readable & (rank == 0))

    def _complaint(self, num_outside: int, problems: dict[str, Tensor]) -> str:
        told = []
        if num_outside:
            ids = f"{self._least_id.item()}..{self._greatest_id.item()}"
            told.append(f"{num_outside} ids outside 0..{self.num_examples - 1} (of {ids})")
        for word, where in problems.items():
            if len(ids := where.nonzero()[:, 0].tolist()):
                told.append(f"{len(ids)} {word} (the first: {', '.join(map(str, ids[:5]))})")
        if len(ids := problems["with a label that is not a class"].nonzero()):
            label, _, _, num_classes, *_ = self._rows[1 + ids[0].item()].tolist()
            told.append(wrong_label(ids[0].item(), label, int(num_classes)))
        if problems["repeated"].sum() > self.num_examples / 2:
            told.append("was end_epoch() forgotten?")
        found = "; ".join(told) or "what another rank complains of"
        return f"epoch {self.epoch} must record every example id once, but found {found}"

    def _summary(self, mine: Tensor, losses: Tensor) -> Recorded:
        label, prediction, *_, times_seen = self._rows[1:-1].unbind(1)
        is_counted = mine & (times_seen > 0)
        sums = torch.stack(
            [
                is_counted.sum().double(),
                torch.where(is_counted, losses, 0).double().sum(),
                (is_counted & (prediction == label)).sum().double(),
                (is_counted & self._is_learned).sum().double(),
            ]
        )
        count, *totals = self.ranks.reduce(sums).tolist()
        return Recorded(int(count), *(total / max(count, 1) for total in totals))

    def _to_host(self) -> tuple[Tensor, torch.cuda.Event | None]:
        """The rows on the host, and the event that says they have arrived; None where they are there."""
        if self._rows.device.type != "cuda":
            return self._rows, None
        self._copying.wait_stream(torch.cuda.current_stream(self._rows.device))
        with torch.cuda.stream(self._copying):
            self._pinned.copy_(self._rows, non_blocking=True)
            return self._pinned, self._copying.record_event()

    def _write(
        self,
        mark: ExitStack,
        epoch: int,
        part: dict[str, Any],
        rows: Tensor,
        arrived: torch.cuda.Event | None,
    ) -> None:
        """In the writer's thread."""
        with mark:
            store.write_part(self.path, epoch, self._table(rows, arrived), self.fingerprint, **part)

    def _table(self, rows: Tensor, arrived: torch.cuda.Event | None) -> pa.Table:
        if arrived is not None:
            arrived.synchronize()
        ids = rows[1:-1, -1].nonzero()[:, 0]
        label, prediction, *sums, _ = rows[1:-1][ids].unbind(1)
        numbers = torch.stack(finish(*sums))
        if self.precision == "float16":
            numbers = numbers.clamp_(-_LARGEST_HALF, _LARGEST_HALF).half().float()
        is_null = self._is_unreadable[ids.numpy()]
        columns = [label.int(), prediction.int(), *numbers]
        arrays = [pa.array(column.numpy(), mask=is_null) for column in columns]
        return pa.table([pa.array(ids.numpy()), *arrays], schema=store.SCHEMA)

    def flush(self) -> None:
        """Wait until every epoch that was ended is on disk."""
        self._writer.wait()

    def close(self) -> None:
        """Wait for what is being written. An epoch that was not ended is dropped, and that is said."""
        if self._is_begun:
            warn(f"epoch {self.epoch} is dropped, since it was not ended with end_epoch()")
        self._is_begun = False
        self._writer.close()

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        # What breaks off a loop breaks off its epoch.
        self._is_begun &= error is None
        try:
            self.close()
        except UserError as failure:
            if error is None:
                raise
            # What is on its way out already comes first.
            error.add_note(str(failure))
