"""A run's state after a whole epoch, to go on from."""

import zipfile
from pathlib import Path

import torch
from torch import nn
from torch.optim import Optimizer

from hardness.errors import UserError
from hardness.files import replacing


def save(path: Path, model: nn.Module, optimizer: Optimizer, epoch: int) -> None:
    """Random numbers need no saving: every epoch has its own (``hardness.seeding``).

    Raises ``OSError`` where the file can't be written.
    """
    state = {"epoch": epoch, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
    with replacing(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            # What torch says on closing hides what happened: a full disk, an interrupt.
            raise error.__context__ or error from None


def load(path: Path, model: nn.Module, optimizer: Optimizer, device: torch.device) -> int:
    """Put the saved state in place -> the epoch after which it was saved; 0 where there is no file."""
    if not path.is_file():
        return 0
    try:
        with zipfile.ZipFile(path) as archive:
            # torch doesn't look at the checksums.
            if damaged := archive.testzip():
                raise ValueError(f"{damaged} is damaged")
        state = torch.load(path, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        return state["epoch"]
    # There is no end to what a file that isn't whole, or isn't ours, makes torch raise.
    except Exception as error:
        found = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"a whole checkpoint in {path}", found, "train anew in another --out") from error
