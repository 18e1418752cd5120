"""Start a Recorder: check its arguments and its folder, drop later epochs, say where to continue."""

import tempfile
from pathlib import Path

import numpy as np
import torch

from hardness.console import remark
from hardness.dynamics import marker, store
from hardness.dynamics.writer import write_failure
from hardness.errors import UserError
from hardness.ranks import Ranks


def open_folder(
    path: Path, num_examples: int, fingerprint: str, resume: bool, overwrite: bool, last_epoch: int | None
) -> int:
    """Check and clear the folder -> the epoch after which to continue."""
    recorded = store.recorded_epochs(path)
    last_epoch = (
        _resumed_epoch(path, num_examples, fingerprint, recorded, overwrite, last_epoch) if resume else 0
    )
    if recorded and not (resume or overwrite):
        hint = "Choose another folder, continue with resume=True, or delete them with overwrite=True."
        raise _records_exist(path, recorded, hint)
    folder = path / "dynamics"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise write_failure(folder, error, "Choose another folder.") from error
    if dropped := store.drop_epochs_after(path, last_epoch):
        epochs = "1 epoch" if dropped == 1 else f"{dropped} epochs"
        after = f" after epoch {last_epoch}" if last_epoch else ""
        remark(f"dropped the records of {epochs}{after} in {path}")
    marker.clear(folder)
    return last_epoch


def _records_exist(path: Path, recorded: list[int], hint: str) -> UserError:
    sentence = "{path} already has records of {epochs} epochs."
    return UserError("records-exist", sentence, hint, path=str(path), epochs=len(recorded))


def _resumed_epoch(
    path: Path,
    num_examples: int,
    fingerprint: str,
    recorded: list[int],
    overwrite: bool,
    last_epoch: int | None,
) -> int:
    """Check that these epochs belong to this run -> the epoch after which to continue."""
    whole = [epoch for epoch in recorded if store.is_whole(path, epoch, fingerprint)]
    if whole:
        found = len(store.read_epoch(path, whole[0], fingerprint).loss)
        if found != num_examples:
            sentence = "{path} has records of {found} examples, not {num_examples}."
            values = {"path": str(path), "found": found, "num_examples": num_examples}
            raise UserError("num-examples-differ", sentence, "Choose another folder.", **values)
    if last_epoch is None and whole:
        last_epoch = whole[-1]
        remark(f"{path} has records up to epoch {last_epoch}: resuming with epoch {last_epoch + 1}")
    if recorded and last_epoch == 0 and not overwrite:
        hint = "Omit last_epoch=0 to continue after them, or delete them with overwrite=True."
        raise _records_exist(path, recorded, hint)
    last_epoch = last_epoch or 0
    if missing := sorted(set(range(1, last_epoch + 1)) - set(whole)):
        sentence = "Cannot resume after epoch {last}: {path} has no complete records of epoch {missing}."
        hint = "Restore them or choose another folder. Call flush() before you save a checkpoint."
        values = {"last": last_epoch, "path": str(path), "missing": missing[0]}
        raise UserError("cannot-resume", sentence, hint, **values)
    return last_epoch


def check_choice(name: str, value: str | None, choices: tuple[str | None, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be {' or '.join(map(str, choices))}, not {value!r}")


def readable(num_examples: int, unreadable: np.ndarray | None) -> np.ndarray:
    """(N,) bool."""
    is_readable = np.ones(num_examples, bool)
    for each in () if unreadable is None else unreadable:
        if not (isinstance(each, int | np.integer) and 0 <= each < num_examples):
            raise ValueError(f"unreadable must be example ids in 0..{num_examples - 1}, not {each!r}")
        is_readable[int(each)] = False
    return is_readable


def check_device(device: torch.device, ranks: Ranks) -> None:
    backend = torch.distributed.get_backend(ranks.group) if ranks.is_many else None
    if backend == "nccl" and device.type == "cpu":
        raise ValueError("with the NCCL backend, the Recorder's device must be CUDA")
