"""One picture, wherever it lies -> its pixels."""

import io
import struct
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


UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What reading raises where there is no whole picture."""
# SOF0 to SOF15, but for the tables that lie among them.
_FRAMES = set(range(0xFFC0, 0xFFD0)) - {0xFFC4, 0xFFC8, 0xFFCC}


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
    """(width, height), from its first bytes. Raises one of ``UNREADABLE`` where it is no picture."""
    with Image.open(io.BytesIO(place.read())) as image:
        return image.size


def read_picture(place: Place) -> Tensor:
    """uint8 (3, H, W): upright, RGB, as large as it is.

    Raises ``UserError`` with the place where there is no whole picture.
    """
    try:
        return _decode(place.read())
    except UNREADABLE as error:
        do = "mend or remove it, or leave it out with --on-bad-image null"
        raise UserError("a readable image", f"{place} ({error})", do) from error


def read_image(place: Place, resize: int, crop: int) -> Tensor:
    """uint8 (3, crop, crop): short side to ``resize``, centre cropped; raises as ``read_picture`` does."""
    pixels = read_picture(place)
    if pixels.shape[1:] != (crop, crop) or resize != crop:
        pixels = F.center_crop(F.resize(pixels, [resize], antialias=True), [crop, crop])
    return pixels


def _decode(data: bytes) -> Tensor:
    """uint8 (3, H, W), upright."""
    if decode_jpeg and 0 < _num_jpeg_pixels(data) <= Image.MAX_IMAGE_PIXELS:
        try:
            # The same pixels as Pillow's, in half the time.
            encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
            return decode_jpeg(encoded, ImageReadMode.RGB, apply_exif_orientation=True)
        except RuntimeError:
            # Not for this decoder; or broken, which Pillow says in better words.
            pass
    with Image.open(io.BytesIO(data)) as image:
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):
            # 16 bits of gray, which convert() would clip to white.
            image = Image.fromarray((np.asarray(image, np.int64).clip(0, 65535) >> 8).astype(np.uint8))
        if "transparency" in image.info:
            image = image.convert("RGBA")
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def _num_jpeg_pixels(data: bytes) -> int:
    """Height times width, as a JPEG's frame header has them; 0 where there is none to be found."""
    position = 2 if data[:2] == b"\xff\xd8" else len(data)
    while position + 9 <= len(data):
        marker, length, _, height, width = struct.unpack_from(">HHBHH", data, position)
        if marker in _FRAMES:
            return height * width
        position += 2 + length
    return 0


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
