"""The device and the precision of a run."""

import torch

from hardness import distributed
from hardness.errors import UserError


def resolve_device(device: str) -> torch.device:
    """``auto`` is CUDA if available. Each rank on a machine gets its own device."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("no-cuda", "--device cuda is not available: no CUDA device.", "Use --device cpu.")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    local_rank, num_devices = distributed.launch().local_rank, torch.cuda.device_count()
    if device == "cuda" and local_rank >= num_devices:
        sentence = "There are more processes than CUDA devices ({devices})."
        raise UserError("too-few-cuda-devices", sentence, "Lower --nproc-per-node.", devices=num_devices)
    return torch.device(device, local_rank) if device == "cuda" else torch.device(device)


def resolve_precision(precision: str, device: torch.device) -> str:
    """``auto`` is bf16 on CUDA if supported, else float32."""
    if precision != "auto":
        return precision
    return (
        "bf16"
        if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        else "float32"
    )


def describe_device(device: torch.device) -> str:
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    return f"cpu: {torch.get_num_threads()} threads"
