"""From the bytes of one image, wherever they are stored, to its pixels."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import torch
from PIL import Image, ImageColor, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from hardness.datasets import deep
from hardness.datasets.deep import OWN, Range
from hardness.datasets.jpeg import decode_jpeg
from hardness.datasets.jpeg import orientation as orientation_of_jpeg
from hardness.datasets.png import SIGNATURE, check_png
from hardness.errors import UserError

Image.init()
_FORMATS = tuple(
    {"JPEG", "MPO", "PNG", "WEBP", "BMP", "TIFF", "PPM", "GIF", "AVIF", "JPEG2000"}.intersection(Image.OPEN)
)
_EIGHT_BITS = (".jpg", ".jpeg", ".jfif", ".gif", ".bmp", ".webp", ".avif")
WHITE = (255, 255, 255)


class Place(Protocol):
    """Where the bytes of an image are stored; ``str(place)`` is its name in messages."""

    def read(self, size: int = -1) -> bytes:
        """Its first ``size`` bytes, or all of them."""
        ...


def is_named_eight_bits(place: Place) -> bool:
    """Does its name imply at most 8 bits? (An image that has more raises an error when it is read.)"""
    return str(place).lower().endswith(_EIGHT_BITS)


def color(name: str) -> tuple[int, int, int]:
    """Red, green and blue (0..255) of ``white``, ``#RRGGBB`` and so on."""
    return ImageColor.getrgb(name)[:3]


def unreadable(place: Place, error: Exception) -> UserError:
    """The error for an image that cannot be read, whatever the reason."""
    reason = "not a supported image format" if isinstance(error, UnidentifiedImageError) else str(error)
    sentence = "The image {path} cannot be read ({reason})."
    hint = "Repair or remove it, or skip it with --on-bad-image null."
    values = {"path": str(place), "reason": reason or type(error).__name__}
    return UserError("unreadable-image", sentence, hint, **values)


def size_of(place: Place) -> tuple[int, int]:
    """(width, height) as stored. Raises ``UserError`` if it is not an image."""
    try:
        with _opened(place.read()) as image:
            return image.size
    except Exception as error:
        raise unreadable(place, error) from error


def value_range(place: Place) -> Range | None:
    """(smallest, largest) value of an image of more than 8 bits; None for any other.

    Raises ``UserError`` if it cannot be read.
    """
    try:
        if not deep.may_be_deep(place.read(deep.HEAD)):
            return None
        data = place.read()
        with _opened(data) as image:
            values = deep.values_of(image, data)
        return values and (values.colors.min().item(), values.colors.max().item())
    except Exception as error:
        raise unreadable(place, error) from error


def has_shades(place: Place) -> bool:
    """Does the image, as stored, have more than one color or opacity?"""
    try:
        data = place.read()
        with _opened(data) as image:
            values = deep.values_of(image, data)
            layers = (
                [np.asarray(image.convert("RGBA"))] if values is None else [values.colors, values.opacity]
            )
        return any((layer != layer[:1, :1]).any() for layer in layers if layer is not None)
    except Exception as error:
        raise unreadable(place, error) from error


def _opened(data: bytes) -> Image.Image:
    """Read its header, and compare the checksums of a PNG."""
    if data.startswith(SIGNATURE):
        check_png(data)
    # Some of the other formats that Pillow supports start external programs.
    return Image.open(io.BytesIO(data), formats=_FORMATS)


def read_picture(
    place: Place, background: tuple[int, int, int] = WHITE, pixel_range: Range | None = OWN
) -> Tensor:
    """uint8 (3, H, W): upright, RGB, at its own size; transparent parts show ``background``.

    Values of more than 8 bits are scaled linearly so that ``pixel_range`` becomes 0 and 255; the default
    range is the image's own (from 0, or its minimum if negative, to its maximum). Raises ``UserError`` with
    the image's name if it cannot be read completely, for example if it is truncated or has NaN values.
    """
    try:
        return torch.from_numpy(_decode(place.read(), background, pixel_range)).permute(2, 0, 1)
    # A damaged file can make a decoder raise anything, including MemoryError.
    except Exception as error:
        raise unreadable(place, error) from error


def read_image(
    place: Place,
    resize: int,
    crop: int,
    background: tuple[int, int, int] = WHITE,
    pixel_range: Range | None = OWN,
) -> Tensor:
    """uint8 (3, crop, crop): short side resized to ``resize``, then center-cropped; see ``read_picture``."""
    pixels = read_picture(place, background, pixel_range)
    try:
        return _resize_and_crop(pixels, resize, crop)
    except (MemoryError, RuntimeError) as error:
        raise unreadable(place, error) from error


def _resize_and_crop(pixels: Tensor, resize: int, crop: int) -> Tensor:
    if pixels.shape[1:] == (crop, crop) and resize == crop:
        return pixels
    pixels = _without_margins(pixels, resize, crop)
    return F.center_crop(F.resize(pixels, [resize], antialias=True), [crop, crop])


def _without_margins(pixels: Tensor, resize: int, crop: int) -> Tensor:
    """Crop an extremely long image, such as 1 x 40,000, first if resizing would make it huge."""
    height, width = pixels.shape[1:]
    short, long = sorted((height, width))
    if resize * resize * long / short <= height * width + 4 * crop * crop:
        return pixels
    # With a margin for the filter, and an even difference, so that the center does not move.
    needed = max(short, -(-(crop + 2) * short // resize) + 4)
    needed += (long - needed) % 2
    return F.center_crop(pixels, [min(height, needed), min(width, needed)])


def _decode(data: bytes, background: tuple[int, int, int], pixel_range: Range | None) -> np.ndarray:
    """uint8 (H, W, 3), upright."""
    if data[:2] == b"\xff\xd8":
        pixels = decode_jpeg(data)
        if pixels is not None:
            return _upright(pixels, orientation_of_jpeg(data))
    with _opened(data) as image:
        orientation = _orientation(image)
        values = deep.values_of(image, data)
        if values is not None:
            return _upright(deep.to_eight_bits(values, background, pixel_range), orientation)
        if image.has_transparency_data:
            image = _on_background(image.convert("RGBA"), background)
        return _upright(np.array(image.convert("RGB")), orientation)


def _on_background(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    canvas = Image.new("RGB", image.size, background)
    canvas.paste(image, mask=image.getchannel("A"))
    return canvas


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 if there is none, or if the decoder has already applied it (TIFF)."""
    if image.format == "TIFF":
        return 1
    try:
        return image.getexif().get(0x0112, 1)
    except Exception:
        return 1


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Apply the EXIF orientation to an image (H, W, 3)."""
    turned = {
        2: lambda: pixels[:, ::-1],
        3: lambda: pixels[::-1, ::-1],
        4: lambda: pixels[::-1],
        5: lambda: pixels.transpose(1, 0, 2),
        6: lambda: pixels[::-1].transpose(1, 0, 2),
        7: lambda: pixels[::-1, ::-1].transpose(1, 0, 2),
        8: lambda: pixels[:, ::-1].transpose(1, 0, 2),
    }
    return np.ascontiguousarray(turned[orientation]()) if orientation in turned else pixels


@dataclass(frozen=True)
class ImageFiles:
    """``files[ids]`` is uint8 (B, 3, crop, crop), channels last, decoded on each access."""

    places: Sequence[Place]
    resize: int
    crop: int
    background: tuple[int, int, int] = WHITE
    pixel_range: Range | None = None
    """None: no image has more than 8 bits."""
    needs_decoding: ClassVar[bool] = True

    def preview(self, example_id: int) -> Tensor:
        """uint8 (3, H, W): one image at its own size."""
        return read_picture(self.places[example_id], self.background, self.pixel_range)

    def __getitem__(self, ids: Sequence[int]) -> Tensor:
        images = torch.empty(len(ids), self.crop, self.crop, 3, dtype=torch.uint8).permute(0, 3, 1, 2)
        for image, i in zip(images, ids, strict=True):
            how = self.resize, self.crop, self.background, self.pixel_range
            image.copy_(read_image(self.places[i], *how))
        return images
