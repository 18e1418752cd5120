"""The Recorder: takes three tensors per batch, writes one Parquet file per epoch and rank."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hardness.console import warn
from hardness.dynamics import opening, own_runs, store
from hardness.dynamics.batch import as_batch, as_losses, check_labels
from hardness.dynamics.record import finish, reduce
from hardness.dynamics.rows import describe_problems, rows_to_table
from hardness.dynamics.writer import Writer
from hardness.errors import UserError
from hardness.ranks import Ranks, of_process_group


@dataclass(frozen=True)
class Recorded:
    """Summary of one epoch's records, over the readable examples of all ranks."""

    num_examples: int
    loss: float
    """Mean, in nats."""
    accuracy: float
    """Fraction of correct predictions."""
    learned: float
    """Fraction of examples predicted correctly in this epoch or an earlier one."""


class Recorder:
    """Records the network's output for every example in every epoch, from your own training loop.

    ::

        with Recorder("runs/mine", num_examples=50_000, device="cuda") as recorder:
            for epoch in range(90):
                for images, labels, example_ids in loader:
                    recorder.update(example_ids, model(images), labels)
                recorder.end_epoch()

    Every example must be recorded exactly once per epoch, unless ``repeats`` or ``missing`` is given.
    ``update`` has no loop over examples and never synchronizes with the device; a background thread writes
    the records while training continues.
    ``scores()`` and the other readers of a run wait for that thread, also in another process.

    To resume from your own checkpoints: call ``flush()`` before you save one, and pass the epoch of the
    checkpoint, counted from 1, when you start (0 if there is none)::

        with Recorder("runs/mine", 50_000, resume=True, last_epoch=start) as recorder:
            for epoch in range(start + 1, 91):
                ...
                recorder.end_epoch()
                recorder.flush()
                torch.save({"epoch": epoch, ...}, "last.pt")

    In a process group every rank creates a Recorder and records its own examples; each writes its own part.
    All ranks must create it, and end every epoch, together. An example seen by several ranks, as when a
    sampler pads the last batch, is recorded by the lowest of them. A rank must not see an example twice.

    path: the run folder; records go to ``path/dynamics/epoch=N/part-RANK.parquet``.
    num_examples: example ids are 0..num_examples-1.
    device: device of the logits; the Recorder allocates 58 bytes per example there (on CUDA also 28 on the
        host).
    resume: continue after the last complete epoch recorded in ``path``. Without it, existing records are an
        error.
    overwrite: delete the existing records and start with epoch 1. Together with ``resume`` it only permits
        ``last_epoch=0``, and another run's records are still an error.
    last_epoch: with ``resume``, continue after this epoch; the records of later epochs are deleted, and their
        number is printed. 0 is an error if there are records, unless ``overwrite`` is given.
    unreadable: ids that are never passed to ``update``; they are recorded as null.
    fingerprint: of the data set; stored in every file, and checked when a folder is opened again.
    repeats: of several records of an example in an epoch, keep the "first" or the "last" (8 more bytes per
        example); None is strict. For samplers that pad, or draw with replacement.
    missing: "null" records an example that an epoch has not seen as null; scores are then over the epochs
        that have a record. None is strict. For ``drop_last`` and the like.
    ranks: the processes that record together; by default the process group that the program has started.
    precision: float16 rounds loss, margin and EL2N to float16 values (about 7 bytes per record), float32 does
        not (about 12).

    Raises ``UserError`` for a folder with records of another run, for a folder that is not writable and, from
    any call, after an epoch could not be written.
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
        repeats: str | None = None,
        missing: str | None = None,
        ranks: Ranks | None = None,
    ):
        opening.check_choice("precision", precision, ("float16", "float32"))
        opening.check_choice("repeats", repeats, (None, "first", "last"))
        opening.check_choice("missing", missing, (None, "null"))
        if not (last_epoch is None or (type(last_epoch) is int and last_epoch >= 0)):
            raise ValueError(f"last_epoch must be a non-negative integer, not {last_epoch!r}")
        if last_epoch and not resume:
            raise ValueError(f"last_epoch={last_epoch} needs resume=True")
        device = torch.device(device)
        self.ranks = of_process_group() if ranks is None else ranks
        opening.check_device(device, self.ranks)
        self.path, self.num_examples, self.fingerprint = Path(path), num_examples, fingerprint
        self.precision, self.repeats, self.missing = precision, repeats, missing
        # An earlier Recorder of another rank may still be writing.
        self.ranks.barrier()
        place = self.path, num_examples, fingerprint
        self.epoch = 1 + self.ranks.on_first(
            lambda: opening.open_folder(*place, resume, overwrite, last_epoch)
        )
        self._writer = Writer(self.path / "dynamics")
        # A Recorder created in inference mode must also accept updates outside of it.
        with torch.inference_mode(False):
            self._is_readable = torch.from_numpy(opening.readable(num_examples, unreadable)).to(device)
            # All examples on every rank: the assignment of examples to ranks changes every epoch.
            self._is_learned = torch.from_numpy(self._learned_before()).to(device)
            # One row per example, zero until it is recorded: label, prediction, arguments of finish(), times
            # seen. All float32, which represents labels of up to 2^24 classes. The first and the last row are
            # for ids out of range. zero_(), since torch.zeros would defer allocation to the first epoch. Two
            # buffers: one is written to disk while the other is filled.
            self._rows = torch.empty(num_examples + 2, 7, device=device).zero_()
            self._spare = self._rows.clone()
            if device.type == "cuda":
                self._copying = torch.cuda.Stream(device)
                self._pinned = torch.empty_like(self._rows, device="cpu", pin_memory=True)
        self._least_id = self._greatest_id = torch.zeros((), dtype=torch.int64, device=device)
        # On other devices checking would synchronize: wrong labels are marked, and end_epoch() raises.
        self._checks_labels_at_once = device.type == "cpu"
        self._workspace: Tensor | None = None
        self._chosen: Tensor | None = None
        self._is_begun = False
        """Has anything been recorded in this epoch?"""
        self._takes: str | None = None
        """The method that records in this run."""

    def _learned_before(self) -> np.ndarray:
        """(N,) bool: the examples predicted correctly in an epoch that is already on disk."""
        is_learned = np.zeros(self.num_examples, bool)
        if self.epoch > 1:
            for _, records in store.read_epochs(self.path, self.fingerprint, self.epoch - 1):
                is_learned |= records.is_correct
        return is_learned

    # Cheaper than no_grad; autograd never needs these tensors.
    @torch.inference_mode()
    def update(self, example_ids: Any, logits: Any, labels: Any) -> None:
        """Record a batch. example_ids: (B,); logits: (B, C); labels: (B,), class indices 0..C-1.

        Tensors, NumPy arrays and lists are accepted: ids of any integer dtype, logits of any real dtype, and
        labels of any real dtype if they are integers. Tensors on another device are moved. Logits (B, 1) are
        those of a binary classifier, as for ``BCEWithLogitsLoss``: they are recorded as the two logits 0 and
        z; labels are 0 or 1, of shape (B,) or (B, 1).

        Raises ``ValueError`` for other shapes and ``TypeError`` for other dtypes. A label that is not a class
        also raises ``ValueError``: here on a CPU, where nothing of the batch is recorded, and in
        ``end_epoch()`` on other devices.
        """
        self._check("update")
        ids, logits, labels = as_batch(example_ids, logits, labels, self._rows.device)
        batch_size, num_classes = logits.shape
        if batch_size == 0:
            return
        classes = labels.long()
        if self._checks_labels_at_once:
            check_labels(labels, ids, num_classes)
        else:
            classes = classes.clamp(0, num_classes - 1)
        prediction, lead, rival, *sums = reduce(logits, classes, self._workspace_for(logits))
        if not self._checks_labels_at_once:
            # A rival is never above 0, so the number of classes there marks a label that is not a class.
            rival = torch.where(classes != labels, num_classes, rival)
        self._add(ids, [labels.float(), prediction.float(), lead, rival, *sums])

    @torch.inference_mode()
    def update_losses(self, example_ids: Any, losses: Any, correct: Any = None) -> None:
        """Record losses alone, for sequences, regression and the like, instead of ``update``.

        example_ids, losses, correct: (B,), as in ``update``. losses: at least 0, e.g. the mean over a
        sequence. correct: bool, whether the prediction counts as correct, if that is known. Scores that need
        what is unknown are left out. A loss that is negative, nan or infinite raises ``ValueError`` in
        ``end_epoch()``.
        """
        self._check("update_losses")
        ids, losses, correct = as_losses(example_ids, losses, correct, self._rows.device)
        if len(ids) == 0:
            return
        losses = torch.where(losses < 0, torch.nan, losses)
        prediction = torch.full_like(losses, -1) if correct is None else (~correct).float()
        # finish() turns these into the loss, and a margin and EL2N that are unknown.
        unknown = torch.full_like(losses, torch.nan)
        self._add(ids, [torch.zeros_like(losses), prediction, -losses, unknown, -(-losses).expm1(), unknown])

    def _check(self, method: str) -> None:
        """Raise the error of an epoch that could not be written, and for another method than before."""
        self._writer.check()
        if self._takes not in (None, method):
            raise ValueError(f"this run records with {self._takes}(): {method}() cannot be mixed with it")
        self._takes = method

    def _add(self, ids: Tensor, columns: list[Tensor]) -> None:
        """Store the columns of ``self._rows`` but for the last."""
        self._is_begun = True
        rows = torch.stack([*columns, torch.ones_like(columns[0])]).T
        places = (ids + 1).clamp_(0, self.num_examples + 1)
        if self.repeats:
            rows = torch.where(self._is_chosen(places)[:, None], rows, 0)
        # Adding to zeros writes the values and counts repetitions in one operation.
        self._rows.index_add_(0, places, rows)
        least, greatest = ids.aminmax()
        self._least_id = torch.minimum(self._least_id, least)
        self._greatest_id = torch.maximum(self._greatest_id, greatest)

    def _is_chosen(self, places: Tensor) -> Tensor:
        """(B,) bool: the records of a batch that count, with ``repeats``. "last" clears earlier ones."""
        if self._chosen is None:
            self._chosen = torch.empty(len(self._rows), dtype=torch.int64, device=places.device)
        order = torch.arange(len(places), device=places.device)
        pick = "amin" if self.repeats == "first" else "amax"
        self._chosen.scatter_reduce_(0, places, order, pick, include_self=False)
        is_chosen = self._chosen[places] == order
        if self.repeats == "last":
            self._rows.index_fill_(0, places, 0)
            return is_chosen
        return is_chosen & (self._rows[places, -1] == 0)

    def _workspace_for(self, logits: Tensor) -> Tensor:
        """Float32 (B, C), reused: on a CPU allocating it would take a third of the time of the work in it."""
        known, (batch_size, num_classes) = self._workspace, logits.shape
        if known is None or known.shape[0] < batch_size or known.shape[1] != num_classes:
            with torch.inference_mode(False):
                known = self._workspace = torch.empty(logits.shape, device=logits.device)
        return known[:batch_size]

    @torch.no_grad()
    def end_epoch(self) -> Recorded:
        """Start writing the epoch's records and begin the next epoch. Synchronizes with the device.

        Raises ``ValueError``, on all ranks, unless every readable example was recorded exactly once, with a
        label that is a class and a finite loss.
        """
        self._writer.check()
        _, _, *sums, _ = self._rows[1:-1].unbind(1)
        losses, _, _ = finish(*sums)
        mine = self._settle(losses)
        with self._writer.mark(self.epoch, self.ranks.rank) as mark:
            # This is a collective: after it, the markers of all ranks exist.
            summary = self._summary(mine, losses)
            # 1: a record; 2: null, without one.
            self._rows[1:-1, -1] = mine.float() * torch.where(self._rows[1:-1, -1] > 0, 1, 2)
            self._writer.start(self._write, mark.pop_all(), self.epoch, *self._to_host())
        self._rows, self._spare = self._spare.zero_(), self._rows
        self._least_id = self._greatest_id = torch.zeros_like(self._least_id)
        self._is_begun = False
        self.epoch += 1
        return summary

    def _settle(self, losses: Tensor) -> Tensor:
        """(N,) bool: the examples that this rank writes. Updates which examples are learned, on any rank."""
        rank, ranks = self.ranks.rank, self.ranks.size
        label, prediction, _, rival, *_, times_seen = self._rows[1:-1].unbind(1)
        is_seen = times_seen > 0
        problems = {
            "unreadable but recorded": is_seen & ~self._is_readable,
            "repeated": times_seen > 1,
            "with a label that is not a class": rival > 0,
            "with a loss that is negative or not finite": is_seen & ~losses.isfinite(),
        }
        num_outside = self._rows[0, -1] + self._rows[-1, -1]
        num_problems = torch.stack([problem.sum() for problem in problems.values()]).sum() + num_outside
        # Per example: twice the lowest rank that saw it, plus one if the prediction is wrong there. The last
        # element is negative if any rank found a problem.
        seen_by = torch.where(is_seen, 2 * rank + (prediction != label), 2 * ranks + 1).int()
        seen_by, any_problem = self.ranks.reduce(
            torch.cat([seen_by, -num_problems.int().view(1)]), "min"
        ).tensor_split([-1])
        owner, is_wrong = seen_by >> 1, seen_by & 1
        is_missing = (owner == ranks) & self._is_readable
        # An epoch without any record is a mistake in any case.
        problems["missing"] = is_missing & ((owner == ranks).all() if self.missing else True)
        if torch.cat([any_problem, problems["missing"]]).any().item():
            raise ValueError(
                f"epoch {self.epoch} does not record every example id exactly once: "
                + describe_problems(problems, self._outside(int(num_outside)), self._rows)
            )
        self._is_learned |= is_wrong == 0
        return (owner == rank) | ((~self._is_readable | is_missing) & (rank == 0))

    def _outside(self, count: int) -> str:
        ids = f"ids are {self._least_id.item()}..{self._greatest_id.item()}"
        return f"{count} ids outside 0..{self.num_examples - 1} ({ids})" if count else ""

    def _summary(self, mine: Tensor, losses: Tensor) -> Recorded:
        label, prediction, *_, times_seen = self._rows[1:-1].unbind(1)
        is_counted = mine & (times_seen > 0)
        sums = torch.stack(
            [
                is_counted.sum().double(),
                torch.where(is_counted, losses, 0).double().sum(),
                # Predictions may be unknown.
                torch.where(prediction < 0, torch.nan, (is_counted & (prediction == label)).double()).sum(),
                torch.where(prediction < 0, torch.nan, (is_counted & self._is_learned).double()).sum(),
            ]
        )
        count, *totals = self.ranks.reduce(sums).tolist()
        return Recorded(int(count), *(total / max(count, 1) for total in totals))

    def _to_host(self) -> tuple[Tensor, torch.cuda.Event | None]:
        """The rows on the host, and the event that ends the copy (None if there is no copy)."""
        if self._rows.device.type != "cuda":
            return self._rows, None
        self._copying.wait_stream(torch.cuda.current_stream(self._rows.device))
        with torch.cuda.stream(self._copying):
            self._pinned.copy_(self._rows, non_blocking=True)
            return self._pinned, self._copying.record_event()

    def _write(self, mark: ExitStack, epoch: int, rows: Tensor, arrived: torch.cuda.Event | None) -> None:
        """Runs in the writer's thread."""
        with mark:
            if arrived is not None:
                arrived.synchronize()
            part = {"part": self.ranks.rank, "num_parts": self.ranks.size, "precision": self.precision}
            store.write_part(self.path, epoch, rows_to_table(rows, self.precision), self.fingerprint, **part)

    def describe(
        self,
        keys: Sequence[str] | None = None,
        class_names: Sequence[str] | None = None,
        *,
        texts: Sequence[str] | None = None,
        images: Sequence[Any] | None = None,
        rows: Any = None,
        clean_labels: Any = None,
        seed: int = 0,
    ) -> None:
        """Say once what the examples are: writes run.json and examples.parquet, which all stages read.

        keys: a distinct stable name for each example; default: its id. class_names: of the classes 0..C-1.
        texts, images or rows: what a person can look at, in reports and exports: strings; paths, or uint8
        arrays (H, W) or (H, W, C); a DataFrame, or a mapping for each example. clean_labels: int (N,), if
        known: scores are then judged by how well they find the labels that differ. seed: distinguishes runs
        on the same examples. Each has one entry per example, ordered by id.

        Raises ``ValueError`` for another number of entries and for repeated keys.
        """
        given = keys, class_names, texts, images, rows, clean_labels, seed
        place = self.path, self.num_examples, self.fingerprint
        self.ranks.on_first(lambda: own_runs.describe(*place, *given))

    def flush(self) -> None:
        """Wait until every ended epoch is on disk."""
        self._writer.wait()

    def close(self) -> None:
        """Wait until all is written. An epoch that was not ended is not written; a warning says so."""
        if self._is_begun:
            warn(f"epoch {self.epoch} is not written: end_epoch() was not called")
        self._is_begun = False
        self._writer.close()

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        # If the loop failed, its epoch is incomplete on purpose: no warning.
        self._is_begun &= error is None
        try:
            self.close()
        except UserError as failure:
            if error is None:
                raise
            # Do not hide the loop's own error.
            error.add_note(str(failure))
