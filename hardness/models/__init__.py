"""A name -> a network from inputs to logits: those registered in this folder, and torchvision's."""

import torch
import torchvision
from torch import nn

from hardness.datasets.examples import DataSet
from hardness.errors import UserError
from hardness.registry import MODELS


def build(
    name: str,
    data: DataSet,
    *,
    seed: int,
    stem: str = "standard",
    precision: str = "float32",
    compile: bool = False,
) -> nn.Module:
    """The named network for the inputs and classes of ``data``, with initial weights drawn from ``seed``.

    ``precision="bf16"``: layers compute in bfloat16 where autocast allows it; weights stay float32.
    ``stem="small"``: a ResNet's 7 x 7 convolution of stride 2 becomes 3 x 3 of stride 1, without
    max-pooling (He et al. 2016, section 4.2). Raises ``UserError`` if the network has no such stem, or the
    images are too small for it.
    """
    channels = None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name in MODELS:
            network = MODELS[name].load()(data.adapter.input_shape, data.num_classes)
        else:
            # Inception and GoogLeNet: no auxiliary logits; their own initialization, without a warning.
            has_auxiliary = name in ("inception_v3", "googlenet")
            extra = {"aux_logits": False, "init_weights": True} if has_auxiliary else {}
            channels = 3
            network = torchvision.models.get_model(name, weights=None, num_classes=data.num_classes, **extra)
        if stem == "small":
            _fit_stem(network, name)
    model = data.adapter.network(network, name, precision, channels)
    if compile:
        # Compiles at the first call, on the device of that moment; in place, to keep the weights' names.
        model.compile()
    return model


def num_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _fit_stem(network: nn.Module, name: str) -> None:
    if not (isinstance(getattr(network, "conv1", None), nn.Conv2d) and hasattr(network, "maxpool")):
        hint = "Remove it, or choose --model resnet18."
        raise UserError("stem-needs-resnet", "--stem small needs a ResNet (got {model}).", hint, model=name)
    network.conv1 = nn.Conv2d(3, network.conv1.out_channels, 3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    network.maxpool = nn.Identity()
