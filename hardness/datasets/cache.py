"""Where pixels lie during a run: in files, in this machine's memory, on the device."""

import os
from dataclasses import replace

import torch
from rich import filesize

from hardness.console import say
from hardness.datasets.base import DataSet
from hardness.datasets.pixels import DevicePixels, HostPixels
from hardness.errors import UserError
from hardness.ranks import Ranks

_COPIED = 512
"""Images at a time."""


def host_memory(ranks: Ranks) -> int:
    """Bytes of this machine's memory for each of its processes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // ranks.local_size


def place(data: DataSet, cache: str, device: torch.device) -> DataSet:
    """Move the pixels onto the device where ``cache`` says so, and say where they are.

    auto: onto a GPU of whose free memory they take half at most. Raises ``UserError`` where they don't fit.
    """
    parts = (data.train, data.validation)
    if not all(isinstance(part.images, HostPixels) for part in parts):
        say(f"images: {data.transform}, decoded every epoch")
        return data
    num_bytes = sum(part.images.num_bytes for part in parts)
    where = "mapped files" if data.train.images.is_mapped else "in memory"
    if device.type == "cuda" and cache in ("auto", "device"):
        free, _ = torch.cuda.mem_get_info(device)
        if cache == "device" and num_bytes > free:
            found, do = f"{filesize.decimal(free)} free", "leave it out, or choose a smaller --size"
            raise UserError(f"{filesize.decimal(num_bytes)} on {device} for --cache device", found, do)
        if cache == "device" or num_bytes <= free / 2:
            where = f"on {device}"
            train, validation = (replace(part, images=on_device(part.images, device)) for part in parts)
            data = replace(data, train=train, validation=validation)
    say(f"images: {data.transform}, {where} ({filesize.decimal(num_bytes)})")
    return data


def on_device(pixels: HostPixels, device: torch.device) -> DevicePixels:
    """Copy all of them, a few at a time."""
    kept = torch.empty((len(pixels), *pixels.shards[0].shape[1:]), dtype=torch.uint8, device=device)
    for first in range(0, len(pixels), _COPIED):
        ids = range(first, min(first + _COPIED, len(pixels)))
        kept[first : ids.stop] = pixels[ids].permute(0, 2, 3, 1)
    return DevicePixels(kept)
