"""The Recorder: three tensors a batch in, one Parquet file an epoch out."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional as F

from hardness.dynamics import store
from hardness.errors import UserError


def record(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits (B, C), labels (B,) -> prediction int64, loss, margin, EL2N float32, each (B,).

    Loss: cross-entropy in nats. Margin: logit of the label minus the largest other (Pleiss et al. 2020).
    EL2N: L2 norm of softmax minus one-hot (Paul et al. 2021).
    """
    logits = logits.float()
    column = labels.unsqueeze(1)
    own = logits.gather(1, column)
    largest_other = logits.scatter(1, column, -torch.inf).amax(1, keepdim=True)
    error = logits.softmax(1).scatter_add(1, column, -torch.ones_like(own))
    return (
        logits.argmax(1),
        F.cross_entropy(logits, labels, reduction="none"),
        (own - largest_other).squeeze(1),
        error.norm(dim=1),
    )


class Recorder:
    """Records what a network makes of every example, every epoch, from anyone's training loop.

    ::

        with Recorder("runs/mine", num_examples=50_000, device="cuda") as recorder:
            for epoch in range(90):
                for images, labels, example_ids in loader:
                    recorder.update(example_ids, model(images), labels)
                recorder.end_epoch()

    Every example must come by exactly once an epoch. ``update`` scatters into vectors on the device, has
    no loop over examples and never waits for the device.

    path: the run folder; records go to ``path/dynamics/epoch=N/part-0.parquet``.
    num_examples: example ids are 0..num_examples-1.
    unreadable: ids that will never come; they are recorded as null.
    resume: go on after the last epoch recorded in ``path``. Without it, records there are refused.
    fingerprint: of the data set; kept in every file, and checked when a folder is opened again.

    Raises ``UserError`` for a folder with records of another run.
    """

    def __init__(
        self,
        path: str | Path,
        num_examples: int,
        device: torch.device | str = "cpu",
        resume: bool = False,
        *,
        unreadable: np.ndarray | None = None,
        fingerprint: str = "",
    ):
        self.path = Path(path)
        self.num_examples = num_examples
        self.fingerprint = fingerprint
        self._unreadable = np.zeros(num_examples, bool)
        if unreadable is not None:
            self._unreadable[unreadable] = True
        recorded = store.recorded_epochs(self.path)
        if recorded and not resume:
            do = "choose another folder, or go on with resume"
            raise UserError(f"no records yet in {self.path}", f"{len(recorded)} epochs", do)
        if recorded:
            found = len(store.read_epoch(self.path, recorded[-1], fingerprint).loss)
            if found != num_examples:
                expected = f"{num_examples} examples in {self.path}"
                raise UserError(expected, str(found), "choose another folder")
        self.epoch = recorded[-1] + 1 if recorded else 1
        # One slot more than there are examples: ids out of range fall into it, to be told at the epoch's end.
        self._times_seen = torch.zeros(num_examples + 1, dtype=torch.int32, device=device)
        self._labels, self._predictions = (
            torch.zeros(num_examples + 1, dtype=torch.int64, device=device) for _ in range(2)
        )
        self._loss, self._margin, self._el2n = (
            torch.zeros(num_examples + 1, device=device) for _ in range(3)
        )

    @torch.no_grad()
    def update(self, example_ids: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Take in a batch. example_ids: (B,) int64; logits: (B, C); labels: (B,) int64, class indices.

        Logits may be of any floating dtype. Tensors on another device are moved.
        """
        device = self._loss.device
        # A copy to the host must be waited for, or it would be read before it has arrived.
        move = {"device": device, "non_blocking": device.type == "cuda"}
        logits, labels, ids = logits.detach().to(**move), labels.to(**move), example_ids.to(**move)
        ids = torch.where((ids >= 0) & (ids < self.num_examples), ids, self.num_examples)
        prediction, loss, margin, el2n = record(logits, labels)
        self._times_seen.index_add_(0, ids, torch.ones_like(ids, dtype=torch.int32))
        self._labels[ids] = labels
        self._predictions[ids] = prediction
        self._loss[ids] = loss
        self._margin[ids] = margin
        self._el2n[ids] = el2n

    @property
    def mean_loss(self) -> float:
        """Mean loss over this epoch's readable examples so far (waits for the device)."""
        return self._mean(self._loss)

    @property
    def accuracy(self) -> float:
        """Share of this epoch's readable examples so far that are correct (waits for the device)."""
        return self._mean((self._predictions == self._labels).float())

    def _mean(self, values: Tensor) -> float:
        seen = self._times_seen[:-1] > 0
        return values[:-1][seen].double().mean().item()

    def end_epoch(self) -> None:
        """Write the epoch's records and begin the next.

        Raises ``ValueError`` unless every example but the unreadable came by exactly once.
        """
        columns = {
            name: values[:-1].cpu().numpy()
            for name, values in (
                ("times_seen", self._times_seen),
                ("given_label", self._labels),
                ("prediction", self._predictions),
                ("loss", self._loss),
                ("margin", self._margin),
                ("el2n", self._el2n),
            )
        }
        times_seen = columns.pop("times_seen")
        self._check(times_seen, num_outside=int(self._times_seen[-1]))
        table = {
            name: pa.array(values, mask=self._unreadable if name != "given_label" else None)
            for name, values in columns.items()
        }
        table["example_id"] = pa.array(np.arange(self.num_examples))
        store.write_epoch(self.path, self.epoch, table, self.fingerprint)
        self._times_seen.zero_()
        self.epoch += 1

    def _check(self, times_seen: np.ndarray, num_outside: int) -> None:
        problems = []
        if num_outside:
            problems.append(f"{num_outside} ids outside 0..{self.num_examples - 1}")
        expected = np.where(self._unreadable, 0, 1)
        for word, ids in (
            ("missing", np.flatnonzero(times_seen < expected)),
            ("repeated", np.flatnonzero(times_seen > expected)),
        ):
            if len(ids):
                problems.append(f"{len(ids)} {word} (the first: {', '.join(map(str, ids[:5]))})")
        if problems:
            raise ValueError(
                f"epoch {self.epoch} must record every example id once, but found {'; '.join(problems)}"
            )

    def close(self) -> None:
        """An epoch that was not ended is dropped; every ended one is on disk already."""
        self._times_seen.zero_()

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *exception) -> None:
        self.close()
