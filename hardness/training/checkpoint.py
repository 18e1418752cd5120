"""A run's state after a complete epoch, to resume from, and the weights of selected epochs."""

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
    """Save model, optimizer and epoch. Every epoch has its own random numbers (``hardness.seeding``).

    Raises ``OSError`` if the file cannot be written.
    """
    _write(path, {"epoch": epoch, "model": model.state_dict(), "optimizer": optimizer.state_dict()})


def load(path: Path, model: nn.Module, optimizer: Optimizer, device: torch.device) -> int:
    """Load the saved state -> the epoch after which it was saved; 0 if there is no file."""
    if not path.is_file():
        return 0
    return _read(path, {"model": model, "optimizer": optimizer}, device)


def keep_weights(run: Path, model: nn.Module, epoch: int) -> None:
    """Write only weights and buffers to RUN/checkpoints/epoch=3.pt. Raises ``OSError`` as ``save`` does."""
    _write(run / "checkpoints" / f"epoch={epoch}.pt", {"epoch": epoch, "model": model.state_dict()})


def kept_epochs(run: Path) -> list[int]:
    """The epochs whose weights were saved, in order."""
    names = (path.name for path in (run / "checkpoints").glob("epoch=*.pt"))
    return sorted(int(match[1]) for name in names if (match := re.fullmatch(r"epoch=(\d+)\.pt", name)))


def load_weights(run: Path, model: nn.Module, device: torch.device, epoch: int | None = None) -> int:
    """Load the weights of an epoch, by default the run's last one -> the epoch.

    Raises ``UserError`` if they were not saved.
    """
    last = run / "checkpoints" / "last.pt"
    path = last if epoch is None else run / "checkpoints" / f"epoch={epoch}.pt"
    if not path.is_file():
        sentence = "{path} does not exist; weights were saved after epochs: {epochs}."
        hint = "Choose one of them, or track with --checkpoint-every."
        epochs = ", ".join(map(str, kept_epochs(run))) or "none"
        raise UserError("no-weights", sentence, hint, path=str(path), epochs=epochs)
    return _read(path, {"model": model}, device)


def _write(path: Path, state: dict[str, Any]) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            # torch raises this when it closes the file, which hides the cause: a full disk, an interrupt.
            raise error.__context__ or error from None


def _read(path: Path, parts: dict[str, nn.Module | Optimizer], device: torch.device) -> int:
    try:
        with zipfile.ZipFile(path) as archive:
            # torch does not verify the checksums.
            if damaged := archive.testzip():
                raise ValueError(f"{damaged} is damaged")
        state = torch.load(path, map_location=device, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(state[name])
        return state["epoch"]
    # torch raises many different errors for a damaged file or one of another program.
    except Exception as error:
        sentence, hint = "Cannot load the checkpoint {path}: {reason}.", "Train again in another --out."
        reason = (str(error) or type(error).__name__).splitlines()[0].removesuffix(".")
        raise UserError("bad-checkpoint", sentence, hint, path=str(path), reason=reason) from error
