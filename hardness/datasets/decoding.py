"""One picture, wherever it lies -> its pixels."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from hardness.errors import UserError

try:
    from torchvision.io import ImageReadMode, decode_jpeg
except ImportError:
    # Deprecated since torchvision 0.29, in favour of another package, which is made for one torch each.
    decode_jpeg = None


class Place(Protocol):
    """Where the bytes of a picture are; ``str(place)`` names it to the user."""

    def read(self) -> bytes: ...


class File(str):
    """The path of a file."""

    __slots__ = ()

    def read(self) -> bytes:
        # A Path for each of millions takes a tenth of the time of small pictures.
        with open(self, "rb") as file:  # noqa: PTH123
            return file.read()


def size_of(place: Place) -> tuple[int, int]:
    """(width, height), from its first bytes. Raises ``OSError`` where it is no picture."""
    with Image.open(io.BytesIO(place.read())) as image:
        return image.size


def read_image(place: Place, resize: int, crop: int) -> Tensor:
    """uint8 (3, crop, crop): upright, RGB, short side to ``resize``, centre cropped.

    Raises ``UserError`` with the place where there is no whole picture.
    """
    try:
        pixels = _decode(place.read())
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        do = "mend or remove it, or leave it out with --on-bad-image null"
        raise UserError("a readable image", f"{place} ({error})", do) from error
    if pixels.shape[1:] != (crop, crop) or resize != crop:
        pixels = F.center_crop(F.resize(pixels, [resize], antialias=True), [crop, crop])
    return pixels


def _decode(data: bytes) -> Tensor:
    """uint8 (3, H, W), upright. Pillow looks at the header: at the kind, and for a size that is a trap."""
    with Image.open(io.BytesIO(data)) as image:
        if image.format == "JPEG" and decode_jpeg:
            try:
                encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
                # The same pixels as Pillow's, in half the time.
                return decode_jpeg(encoded, ImageReadMode.RGB, apply_exif_orientation=True)
            except RuntimeError:
                # Not for this decoder; or broken, which Pillow says in better words.
                pass
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):
            # 16 bits of gray, which convert() would clip to white.
            image = Image.fromarray((np.asarray(image, np.int64).clip(0, 65535) >> 8).astype(np.uint8))
        if "transparency" in image.info:
            image = image.convert("RGBA")
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


@dataclass(frozen=True)
class ImageFiles:
    """``files[ids]`` is uint8 (B, 3, crop, crop), channels last, decoded when it is asked for."""

    places: Sequence[Place]
    resize: int
    crop: int

    def __getitem__(self, ids: Sequence[int]) -> Tensor:
        images = torch.empty(len(ids), self.crop, self.crop, 3, dtype=torch.uint8).permute(0, 3, 1, 2)
        for image, i in zip(images, ids, strict=True):
            image.copy_(read_image(self.places[i], self.resize, self.crop))
        return images
