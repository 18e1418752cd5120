"""Networks for uint8 images by name: torchvision's classifiers, and two small ones.

Each network normalizes its own input, so that checkpoints are complete and the training step is simple.
"""

import itertools

import torch
import torchvision
from torch import Tensor, nn
from torchvision.transforms.v2.functional import center_crop

from hardness.datasets import DataSet
from hardness.errors import UserError
from hardness.registry import OWN_MODELS


class Normalize(nn.Module):
    """uint8 (B, C, H, W) -> float32 with mean 0 and standard deviation 1 per channel.

    A single channel is repeated to ``out_channels``, since torchvision's networks take three.
    """

    def __init__(self, mean: list[float], std: list[float], out_channels: int):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))
        self.out_channels = out_channels

    def forward(self, images: Tensor) -> Tensor:
        # In place in one copy: allocating memory costs as much as the arithmetic.
        scaled = images.to(torch.float32, copy=True).div_(255).sub_(self.mean).div_(self.std)
        # Convolutions are faster with channels last, on CPUs (1.6 times for small_cnn here) and on GPUs.
        # permute() and contiguous(), because vmap does not support memory formats.
        last = scaled.expand(-1, self.out_channels, -1, -1).permute(0, 2, 3, 1).contiguous()
        return last.permute(0, 3, 1, 2)


class Network(nn.Sequential):
    """uint8 (B, C, H, W) -> logits (B, classes), float32 at any ``precision`` inside.

    Images larger than ``image_size`` are center-cropped.
    """

    def __init__(self, *layers: nn.Module, image_size: tuple[int, int], precision: str):
        super().__init__(*layers)
        self.image_size, self.precision = image_size, precision

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[-2:] != self.image_size:
            images = center_crop(images, self.image_size)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return super().forward(images).float()


def mlp(image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """Two hidden layers of 256 units; no batch normalization."""
    channels, height, width = image_shape
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(channels * height * width, 256),
        nn.ReLU(),
        nn.Linear(256, 256),
        nn.ReLU(),
        nn.Linear(256, num_classes),
    )


def small_cnn(image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """Three 3 x 3 convolutions, each with max-pooling, then two linear layers; no batch normalization."""
    widths = (image_shape[0], 32, 64, 128)
    layers = []
    for wide_in, wide_out in itertools.pairwise(widths):
        # Pooling before ReLU gives the same values with a quarter of the ReLUs.
        layers += [nn.Conv2d(wide_in, wide_out, 3, padding=1), nn.MaxPool2d(2), nn.ReLU()]
    return nn.Sequential(
        *layers,
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(128 * 16, 256),
        nn.ReLU(),
        nn.Linear(256, num_classes),
    )


def build(
    name: str,
    data: DataSet,
    *,
    seed: int,
    stem: str = "standard",
    precision: str = "float32",
    compile: bool = False,
) -> Network:
    """The named network for the images and classes of ``data``, with initial weights drawn from ``seed``.

    ``precision="bf16"``: layers compute in bfloat16 where autocast allows it; weights stay float32.
    ``stem="small"``: a ResNet's 7 x 7 convolution of stride 2 becomes 3 x 3 of stride 1, without
    max-pooling (He et al. 2016, section 4.2). Raises ``UserError`` if the network has no such stem, or the
    images are too small for it.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name in OWN_MODELS:
            channels = data.image_shape[0]
            network = OWN_MODELS[name].load()(data.image_shape, data.num_classes)
        else:
            # Inception and GoogLeNet: no auxiliary logits; their own initialization, without a warning.
            has_auxiliary = name in ("inception_v3", "googlenet")
            extra = {"aux_logits": False, "init_weights": True} if has_auxiliary else {}
            channels = 3
            network = torchvision.models.get_model(name, weights=None, num_classes=data.num_classes, **extra)
        if stem == "small":
            _fit_stem(network, name)
    normalize = Normalize(data.mean, data.std, channels)
    model = Network(normalize, network, image_size=tuple(data.image_shape[1:]), precision=precision)
    model = model.to(memory_format=torch.channels_last)
    _check_image_size(model, name, data.image_shape)
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


@torch.no_grad()
def _check_image_size(model: nn.Module, name: str, image_shape: tuple[int, int, int]) -> None:
    """Raise ``UserError`` if the network cannot take images of this size, before a stage begins."""
    try:
        model.eval()(torch.zeros(1, *image_shape, dtype=torch.uint8))
    except (RuntimeError, AssertionError) as error:
        sentence = "Images of {height} x {width} pixels are too small for {model} ({reason})."
        hint = "Choose another --model, or a larger --size for image folders."
        values = {"height": image_shape[1], "width": image_shape[2], "model": name, "reason": str(error)}
        raise UserError("image-too-small", sentence, hint, **values) from error
