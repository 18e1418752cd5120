"""The Recorder: three tensors a batch in, one Parquet file an epoch and rank out."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from hardness import distributed
from hardness.dynamics import store
from hardness.dynamics.writer import Writer
from hardness.errors import UserError

_LOG2_E = 1 / math.log(2)
_LARGEST_HALF = 65504.0


def record(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits (B, C), labels (B,) -> prediction int64, loss, margin, EL2N float32, each (B,).

    Loss: cross-entropy in nats. Margin: logit of the label minus the largest other (Pleiss et al. 2020).
    EL2N: L2 norm of softmax minus one-hot (Paul et al. 2021). Each to the precision of float32, also where
    the label's probability is near 1.
    """
    prediction, *sums = _reduce(logits, labels)
    return prediction, *_finish(*sums)


def _reduce(
    logits: Tensor, labels: Tensor, workspace: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """What of a record needs the logits, each (B,); ``workspace`` is float32 (B, C).

    The prediction; less the largest logit, the label's (``lead``) and the largest other (``rival``); of the
    other classes' weights, which are exponentials of theirs, the sum and the L2 norm.
    """
    logits, column = logits.float(), labels.unsqueeze(1)
    prediction = argmax(logits)
    others = torch.sub(logits, logits.gather(1, prediction.unsqueeze(1)), out=workspace)
    lead = others.gather(1, column).squeeze(1)
    rival = others.scatter_(1, column, -torch.inf).amax(1)
    # exp2, since exp costs three times as much on a CPU (torch 2.14).
    weights = others.mul_(_LOG2_E).exp2_()
    return prediction, lead, rival, weights.sum(1), torch.linalg.vector_norm(weights, dim=1)


def _finish(
    lead: Tensor, rival: Tensor, sum_of_others: Tensor, norm_of_others: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The rest, which can wait for the end of the epoch -> loss, margin, EL2N."""
    # All weights together, less the largest one, which is 1.
    rest = sum_of_others + lead.expm1()
    return rest.log1p() - lead, lead - rival, torch.hypot(sum_of_others, norm_of_others) / (rest + 1)


def argmax(logits: Tensor) -> Tensor:
    """(B, C) -> (B,) int64: the first position of the largest."""
    if logits.device.type == "cpu":
        # Vectorized, as torch's is not: a tenth of the time at 1,000 classes (torch 2.14, numpy 2.4).
        return torch.from_numpy(logits.numpy().argmax(1))
    return logits.argmax(1)


@dataclass(frozen=True)
class Recorded:
    """What an epoch's records say, over the readable examples of all ranks."""

    num_examples: int
    loss: float
    """Mean, in nats."""
    accuracy: float
    """Share of correct predictions."""


class Recorder:
    """Records what a network makes of every example, every epoch, from anyone's training loop.

    ::

        with Recorder("runs/mine", num_examples=50_000, device="cuda") as recorder:
            for epoch in range(90):
                for images, labels, example_ids in loader:
                    recorder.update(example_ids, model(images), labels)
                recorder.end_epoch()

    Every example must come by exactly once an epoch. ``update`` has no loop over examples and never waits
    for the device; the records are written by a thread of their own while training goes on.

    In a process group of several ranks every rank has its own Recorder and hands in what it sees; each
    writes its own part. An example that several ranks see, as where a sampler fills up the last batch, is
    the lowest one's. A rank must not see an example twice.

    path: the run folder; records go to ``path/dynamics/epoch=N/part-RANK.parquet``.
    num_examples: example ids are 0..num_examples-1.
    device: where logits are; 28 bytes an example are kept there, and as many on the host.
    resume: go on after the last whole epoch recorded in ``path``. Without it, records there are refused.
    last_epoch: with ``resume``, go on after this one; the records of later epochs are dropped, since they
        will be made again.
    unreadable: ids that will never come; they are recorded as null.
    fingerprint: of the data set; kept in every file, and checked when a folder is opened again.
    precision: loss, margin and EL2N as float32, or rounded to float16 values (a third of the bytes).

    Raises ``UserError`` for a folder with records of another run and, from any call, once an epoch could
    not be written.
    """

    def __init__(
        self,
        path: str | Path,
        num_examples: int,
        device: torch.device | str = "cpu",
        resume: bool = False,
        *,
        last_epoch: int | None = None,
        unreadable: np.ndarray | None = None,
        fingerprint: str = "",
        precision: str = "float16",
    ):
        self.path = Path(path)
        self.num_examples = num_examples
        self.fingerprint = fingerprint
        self.precision = precision
        # Another rank may still be writing what an earlier recorder has seen.
        distributed.wait_for_all()
        self.epoch = distributed.first_decides(lambda: self._begin(resume, last_epoch)) + 1
        self._unreadable = np.zeros(num_examples, bool)
        if unreadable is not None:
            self._unreadable[unreadable] = True
        # A row an example, all zero until it comes: label, prediction, what _finish takes, times seen. All
        # float32, which holds labels of up to 2^24 classes. Ids out of range fall into the first row and the
        # last.
        # Filled, not torch.zeros, which leaves it to the first epoch to get the memory page by page.
        self._rows = torch.empty(num_examples + 2, 7, device=device).zero_()
        on_gpu = self._rows.device.type == "cuda"
        self._host = torch.empty_like(self._rows, device="cpu", pin_memory=on_gpu)
        self._copying = torch.cuda.Stream(self._rows.device) if on_gpu else None
        # On a CPU new memory costs as much as a third of the work in it.
        self._workspace: Tensor | None = None
        self._writer = Writer(self.path / "dynamics")

    def _begin(self, resume: bool, last_epoch: int | None) -> int:
        """Check and clear the folder -> the epoch after which to go on."""
        recorded = store.recorded_epochs(self.path)
        if recorded and not resume:
            do = "choose another folder, or go on with resume"
            raise UserError(f"no records yet in {self.path}", f"{len(recorded)} epochs", do)
        whole = [epoch for epoch in recorded if store.is_whole(self.path, epoch)]
        if last_epoch is None:
            last_epoch = whole[-1] if whole else 0
        if missing := sorted(set(range(1, last_epoch + 1)) - set(whole)):
            raise UserError(
                f"whole records of epochs 1..{last_epoch} in {self.path}",
                f"none of epoch {missing[0]}",
                "restore them, or record anew in another folder",
            )
        store.drop_epochs_after(self.path, last_epoch)
        if last_epoch:
            found = len(store.read_epoch(self.path, last_epoch, self.fingerprint).loss)
            if found != self.num_examples:
                expected = f"{self.num_examples} examples in {self.path}"
                raise UserError(expected, str(found), "choose another folder")
        return last_epoch

    @torch.no_grad()
    def update(self, example_ids: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Take in a batch. example_ids: (B,) int64; logits: (B, C); labels: (B,) int64, class indices.

        Logits may be of any floating dtype. Tensors on another device are moved.
        """
        self._writer.check()
        device = self._rows.device
        # A copy to the host must be waited for, or it would be read before it has arrived.
        move = {"device": device, "non_blocking": device.type == "cuda"}
        logits, labels, ids = logits.detach().to(**move), labels.to(**move), example_ids.to(**move)
        if self._workspace is None or len(self._workspace) < len(logits):
            self._workspace = torch.empty_like(logits, dtype=torch.float32)
        prediction, *sums = _reduce(logits, labels, self._workspace[: len(logits)])
        columns = [labels.float(), prediction.float(), *sums, torch.ones_like(sums[0])]
        # Adding to zeros is writing, and counts at once.
        self._rows.index_add_(0, (ids + 1).clamp_(0, self.num_examples + 1), torch.stack(columns).T)

    @torch.no_grad()
    def end_epoch(self) -> Recorded:
        """Hand the epoch's records over to be written, and begin the next.

        Waits for the device once. Raises ``ValueError`` unless every example but the unreadable came by
        exactly once.
        """
        self._writer.check()
        mine = self._settle()
        summary = self._summary(mine)
        self._rows[1:-1, -1] = mine.float()
        # The last epoch is written from the same memory.
        self._writer.wait()
        part = {"part": distributed.rank(), "num_parts": distributed.num_ranks()}
        self._writer.start(self._write, self.epoch, part, self._to_host())
        self._rows.zero_()
        self.epoch += 1
        return summary

    def _settle(self) -> Tensor:
        """(N,) bool: the examples whose records this rank writes. Raises ``ValueError``, on all ranks."""
        rank, ranks = distributed.rank(), distributed.num_ranks()
        device = self._rows.device
        times_seen = self._rows[1:-1, -1]
        num_outside = self._rows[0, -1] + self._rows[-1, -1]
        readable = ~torch.from_numpy(self._unreadable).to(device)
        repeated = times_seen > readable
        # The lowest rank that saw each example; behind them, less than nothing if a rank has a complaint.
        complaint = -(num_outside + repeated.sum()).int().view(1)
        owner = torch.where(times_seen > 0, rank, ranks).int()
        owner, complaint = distributed.reduce(torch.cat([owner, complaint]), "min").tensor_split([-1])
        missing = (owner == ranks) & readable
        if torch.cat([complaint, missing]).any().item():
            raise ValueError(self._complaint(int(num_outside), missing, repeated))
        return (owner == rank) | (~readable & (rank == 0))

    def _complaint(self, num_outside: int, missing: Tensor, repeated: Tensor) -> str:
        problems = [f"{num_outside} ids outside 0..{self.num_examples - 1}"] if num_outside else []
        for word, where in (("missing", missing), ("repeated", repeated)):
            if len(ids := where.nonzero()[:, 0].tolist()):
                problems.append(f"{len(ids)} {word} (the first: {', '.join(map(str, ids[:5]))})")
        found = "; ".join(problems) or "what another rank complains of"
        return f"epoch {self.epoch} must record every example id once, but found {found}"

    def _summary(self, mine: Tensor) -> Recorded:
        label, prediction, *sums, times_seen = self._rows[1:-1].unbind(1)
        loss, _, _ = _finish(*sums)
        is_counted = mine & (times_seen > 0)
        sums = torch.stack(
            [
                is_counted.sum().double(),
                torch.where(is_counted, loss, 0).double().sum(),
                (is_counted & (prediction == label)).sum().double(),
            ]
        )
        count, loss, correct = distributed.reduce(sums).tolist()
        return Recorded(int(count), loss / max(count, 1), correct / max(count, 1))

    def _to_host(self) -> torch.cuda.Event | None:
        """Copy the rows -> the event that says they have arrived; None where they have."""
        if self._copying is None:
            self._host.copy_(self._rows)
            return None
        training = torch.cuda.current_stream(self._rows.device)
        self._copying.wait_stream(training)
        with torch.cuda.stream(self._copying):
            self._host.copy_(self._rows, non_blocking=True)
            arrived = self._copying.record_event()
        # The device, not this process, waits before the rows are written to again.
        training.wait_event(arrived)
        return arrived

    def _write(self, epoch: int, part: dict[str, int], arrived: torch.cuda.Event | None) -> None:
        """In the writer's thread."""
        if arrived is not None:
            arrived.synchronize()
        ids = self._host[1:-1, -1].nonzero()[:, 0]
        label, prediction, *sums, _ = self._host[1:-1][ids].unbind(1)
        numbers = torch.stack(_finish(*sums))
        if self.precision == "float16":
            numbers = numbers.clamp_(-_LARGEST_HALF, _LARGEST_HALF).half().float()
        is_null = self._unreadable[ids.numpy()]
        columns = [label.int(), prediction.int(), *numbers]
        arrays = [pa.array(column.numpy(), mask=is_null) for column in columns]
        table = pa.table([pa.array(ids.numpy()), *arrays], schema=store.SCHEMA)
        store.write_part(self.path, epoch, table, self.fingerprint, precision=self.precision, **part)

    def flush(self) -> None:
        """Wait until every epoch that was ended is on disk."""
        self._writer.wait()

    def close(self) -> None:
        """Wait for what is being written. An epoch that was not ended is dropped."""
        self._writer.close()

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        try:
            self.close()
        except UserError as failure:
            if error is None:
                raise
            # What is on its way out already comes first.
            error.add_note(str(failure))
