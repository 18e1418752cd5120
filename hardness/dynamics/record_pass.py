"""An evaluation pass in your own training loop, recorded."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from hardness.dynamics.recorder import Recorded, Recorder


@torch.no_grad()
def record_pass(model: nn.Module, loader: Iterable[Any], recorder: Recorder) -> Recorded:
    """Record the network's output on every batch in evaluation mode, and end the recorder's epoch.

    Neither dropout nor updates of batch normalization; afterwards each module is in its previous mode.

    loader: yields (inputs, labels (B,), example ids (B,)); inputs, a tensor or a dict of tensors, are moved
    to the device of the network. A dict is passed as keyword arguments. The network returns logits (B, C), or
    an object whose attribute ``logits`` they are.

    Raises ``ValueError`` as ``Recorder.update`` and ``Recorder.end_epoch`` do.
    """
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        for inputs, labels, example_ids in loader:
            if isinstance(inputs, dict):
                output = model(**{name: values.to(device) for name, values in inputs.items()})
            else:
                output = model(inputs.to(device))
            recorder.update(example_ids, getattr(output, "logits", output), labels)
    finally:
        for module, mode in modes:
            module.training = mode
    return recorder.end_epoch()
