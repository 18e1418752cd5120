"""From the bytes of one image, wherever they are stored, to its pixels."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
from hardness.datasets.source import File as File  # Scripts import it from here.
from hardness.errors import UserError

Image.init()
_FORMATS = tuple(
    {"JPEG", "MPO", "PNG", "WEBP", "BMP", "TIFF", "PPM", "GIF", "AVIF", "JPEG2000"}.intersection(Image.OPEN)
)
_EIGHT_BITS = (".jpg", ".jpeg", ".jfif", ".gif", ".bmp", ".webp", ".avif")
WHITE = (255, 255, 255)


class ImageSource(Protocol):
    """Where the bytes of an image are stored; ``str(source)`` is its name in messages."""

    def read(self, size: int = -1) -> bytes:
        """Its first ``size`` bytes, or all of them."""
        ...


def is_named_eight_bits(source: ImageSource) -> bool:
    """Does its name imply at most 8 bits? (An image that has more raises an error when it is read.)"""
    return str(source).lower().endswith(_EIGHT_BITS)


def color(name: str) -> tuple[int, int, int]:
    """Red, green and blue (0..255) of ``white``, ``#RRGGBB`` and so on."""
    return ImageColor.getrgb(name)[:3]


def no_readable_image(num_images: int, first: UserError) -> UserError:
    """The error for images none of which can be read, from the error of the first."""
    sentence = "None of the {num_images} images can be read; the first is {path} ({reason})."
    values = first.values | {"num_images": num_images}
    return UserError("no-readable-image", sentence, "Check the files.", **values)


@contextmanager
def _named(source: ImageSource) -> Iterator[None]:
    """Errors that the block raises become ``UserError``, with the image's name."""
    try:
        yield
    # A damaged file can make a decoder raise anything, including MemoryError.
    except Exception as error:
        reason = "not a supported image format" if isinstance(error, UnidentifiedImageError) else str(error)
        sentence = "The image {path} cannot be read ({reason})."
        hint = "Repair or remove it, or skip it with --on-bad-image null."
        values = {"path": str(source), "reason": reason or type(error).__name__}
        raise UserError("unreadable-image", sentence, hint, **values) from error


def short_side(source: ImageSource) -> int:
    """In pixels. Raises ``UserError`` if it is not an image."""
    with _named(source), _opened(source.read()) as image:
        return min(image.size)


def value_range(source: ImageSource) -> Range | None:
    """(smallest, largest) value of an image of more than 8 bits; None for any other.

    Raises ``UserError`` if it cannot be read.
    """
    with _named(source):
        if not deep.may_be_deep(source.read(deep.HEAD)):
            return None
        data = source.read()
        with _opened(data) as image:
            values = deep.values_of(image, data)
        return values and (values.colors.min().item(), values.colors.max().item())


def has_shades(source: ImageSource) -> bool:
    """Does the image, as stored, have more than one color or opacity?"""
    with _named(source):
        data = source.read()
        with _opened(data) as image:
            if values := deep.values_of(image, data):
                layers = values.colors, values.opacity
            else:
                layers = (np.asarray(image.convert("RGBA")),)
        return any((layer != layer[:1, :1]).any() for layer in layers if layer is not None)


def _opened(data: bytes) -> Image.Image:
    """Read its header, and compare the checksums of a PNG."""
    if data.startswith(SIGNATURE):
        check_png(data)
    # Some of the other formats that Pillow supports start external programs.
    return Image.open(io.BytesIO(data), formats=_FORMATS)


def read_picture(
    source: ImageSource, background: tuple[int, int, int] = WHITE, pixel_range: Range | None = OWN
) -> Tensor:
    """uint8 (3, H, W): upright, RGB, at its own size; transparent parts show ``background``.

    Values of more than 8 bits are scaled linearly so that ``pixel_range`` becomes 0 and 255; the default
    range is the image's own (from 0, or its minimum if negative, to its maximum). Raises ``UserError`` with
    the image's name if it cannot be read completely, for example if it is truncated or has NaN values.
    """
    with _named(source):
        return torch.from_numpy(_decode(source.read(), background, pixel_range)).permute(2, 0, 1)


def read_image(
    source: ImageSource,
    resize: int,
    crop: int,
    background: tuple[int, int, int] = WHITE,
    pixel_range: Range | None = OWN,
) -> Tensor:
    """uint8 (3, crop, crop): short side resized to ``resize``, then center-cropped; see ``read_picture``."""
    pixels = read_picture(source, background, pixel_range)
    if pixels.shape[1:] == (crop, crop) and resize == crop:
        return pixels
    with _named(source):
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
            image = image.convert("RGBA")
            canvas = Image.new("RGB", image.size, background)
            canvas.paste(image, mask=image.getchannel("A"))
            image = canvas
        return _upright(np.array(image.convert("RGB")), orientation)


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
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


@dataclass(frozen=True)
class ImageFiles:
    """``files[ids]`` is uint8 (B, 3, crop, crop), channels last, decoded on each access."""

    sources: Sequence[ImageSource]
    resize: int
    crop: int
    background: tuple[int, int, int] = WHITE
    pixel_range: Range | None = None
    """None: no image has more than 8 bits."""
    needs_decoding: ClassVar[bool] = True

    def preview(self, example_id: int) -> Tensor:
        """uint8 (3, H, W): one image at its own size."""
        return read_picture(self.sources[example_id], self.background, self.pixel_range)

    def __getitem__(self, ids: Sequence[int]) -> Tensor:
        images = torch.empty(len(ids), self.crop, self.crop, 3, dtype=torch.uint8).permute(0, 3, 1, 2)
        for image, i in zip(images, ids, strict=True):
            settings = self.resize, self.crop, self.background, self.pixel_range
            image.copy_(read_image(self.sources[i], *settings))
        return images
