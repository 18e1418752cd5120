"""A run's state after a whole epoch, to go on from, and the weights of epochs that are kept."""

import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from hardness.errors import UserError
from hardness.files import replacing


def save(path: Path, model: nn.Module, optimizer: Optimizer, epoch: int) -> None:
    """Random numbers need no saving: every epoch has its own (``hardness.seeding``).

    Raises ``OSError`` where the file can't be written.
    """
    _write(path, {"epoch": epoch, "model": model.state_dict(), "optimizer": optimizer.state_dict()})


def load(path: Path, model: nn.Module, optimizer: Optimizer, device: torch.device) -> int:
    """Put the saved state in place -> the epoch after which it was saved; 0 where there is no file."""
    if not path.is_file():
        return 0
    return _read(path, {"model": model, "optimizer": optimizer}, device)


def keep_weights(run: Path, model: nn.Module, epoch: int) -> None:
    """Write RUN/checkpoints/epoch=3.pt, of the weights (and buffers) alone. Raises as ``save`` does."""
    _write(run / "checkpoints" / f"epoch={epoch}.pt", {"epoch": epoch, "model": model.state_dict()})


def kept_epochs(run: Path) -> list[int]:
    """The epochs whose weights were kept, in order."""
    names = (path.name for path in (run / "checkpoints").glob("epoch=*.pt"))
    return sorted(int(match[1]) for name in names if (match := re.fullmatch(r"epoch=(\d+)\.pt", name)))


def load_weights(run: Path, model: nn.Module, device: torch.device, epoch: int | None = None) -> int:
    """Put the weights of an epoch in place, by default those of the run's last one -> the epoch.

    Raises ``UserError`` where they were not kept.
    """
    last = run / "checkpoints" / "last.pt"
    path = last if epoch is None else run / "checkpoints" / f"epoch={epoch}.pt"
    if not path.is_file():
        found = f"those of {', '.join(map(str, kept_epochs(run))) or 'none'}"
        do = "name one of them, or track with --checkpoint-every"
        raise UserError(f"weights in {path}", found, do)
    return _read(path, {"model": model}, device)


def _write(path: Path, state: dict[str, Any]) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            # What torch says on closing hides what happened: a full disk, an interrupt.
            raise error.__context__ or error from None


def _read(path: Path, parts: dict[str, nn.Module | Optimizer], device: torch.device) -> int:
    try:
        with zipfile.ZipFile(path) as archive:
            # torch doesn't look at the checksums.
            if damaged := archive.testzip():
                raise ValueError(f"{damaged} is damaged")
        state = torch.load(path, map_location=device, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(state[name])
        return state["epoch"]
    # There is no end to what a file that isn't whole, or isn't ours, makes torch raise.
    except Exception as error:
        found = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"a whole checkpoint in {path}", found, "train anew in another --out") from error
