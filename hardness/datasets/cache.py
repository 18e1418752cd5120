"""Where pixels are stored during a run: in files, in main memory, or on the device."""

import os
from dataclasses import replace

import torch
from rich import filesize

from hardness.console import say
from hardness.datasets.examples import DataSet
from hardness.datasets.pixels import DevicePixels, HostPixels
from hardness.errors import UserError
from hardness.ranks import Ranks

_COPIED = 512
"""Images at a time."""


def host_memory(ranks: Ranks) -> int:
    """Bytes of main memory per process of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // ranks.local_size


def place(data: DataSet, cache: str, device: torch.device) -> DataSet:
    """Copy the pixels to the device if ``cache`` requires it, and print where they are.

    auto: to a GPU if they take at most half of its free memory. Raises ``UserError`` if they do not fit.
    """
    parts = (data.train, data.validation)
    if not all(isinstance(part.inputs, HostPixels) for part in parts):
        say(f"images: {data.adapter.transform}, decoded every epoch")
        return data
    num_bytes = sum(part.inputs.num_bytes for part in parts)
    where = "memory-mapped files" if data.train.inputs.is_mapped else "in memory"
    if device.type == "cuda" and cache in ("auto", "device"):
        free, _ = torch.cuda.mem_get_info(device)
        if cache == "device" and num_bytes > free:
            sentence = "--cache device needs {needed} on {device}, but only {free} are free."
            values = {"needed": filesize.decimal(num_bytes), "free": filesize.decimal(free)}
            hint = "Remove it, or choose a smaller --size."
            raise UserError("not-enough-gpu-memory", sentence, hint, device=str(device), **values)
        if cache == "device" or num_bytes <= free / 2:
            where = f"on {device}"
            train, validation = (replace(part, inputs=on_device(part.inputs, device)) for part in parts)
            data = replace(data, train=train, validation=validation)
    say(f"images: {data.adapter.transform}, {where} ({filesize.decimal(num_bytes)})")
    return data


def on_device(pixels: HostPixels, device: torch.device) -> DevicePixels:
    """Copy all pixels, a few images at a time."""
    kept = torch.empty((len(pixels), *pixels.shards[0].shape[1:]), dtype=torch.uint8, device=device)
    for first in range(0, len(pixels), _COPIED):
        ids = range(first, min(first + _COPIED, len(pixels)))
        kept[first : ids.stop] = pixels[ids].permute(0, 2, 3, 1)
    return DevicePixels(kept)
