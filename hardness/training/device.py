"""Where a run computes."""

import torch

from hardness import distributed
from hardness.errors import UserError


def resolve_device(device: str) -> torch.device:
    """``auto``: CUDA where there is one; of many ranks on a machine, each its own."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("a CUDA device for --device cuda", "none", "use --device cpu")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    number, found = distributed.launch().local_rank, torch.cuda.device_count()
    if device == "cuda" and number >= found:
        raise UserError("a CUDA device for each process", f"{found}", "lower --nproc-per-node")
    return torch.device(device, number) if device == "cuda" else torch.device(device)


def resolve_precision(precision: str, device: torch.device) -> str:
    """``auto``: bf16 on CUDA where it has it, else float32."""
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
