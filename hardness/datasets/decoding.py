"""One picture, wherever it lies -> its pixels."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from PIL import Image, ImageColor, UnidentifiedImageError
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms.v2 import functional as F

from hardness.datasets import deep
from hardness.datasets.deep import OWN, Range
from hardness.datasets.jpeg import decode_jpeg
from hardness.datasets.jpeg import orientation as orientation_of_jpeg
from hardness.datasets.png import SIGNATURE, check_png
from hardness.errors import UserError

EXTENSIONS = tuple(
    sorted({*IMG_EXTENSIONS, ".jfif", ".gif", *{".avif"}.intersection(Image.registered_extensions())})
)
"""Of the files that are read as images."""
_FORMATS = tuple(
    {"JPEG", "MPO", "PNG", "WEBP", "BMP", "TIFF", "PPM", "GIF", "AVIF", "JPEG2000"}.intersection(Image.OPEN)
)
_EIGHT_BITS = (".jpg", ".jpeg", ".jfif", ".gif", ".bmp", ".webp", ".avif")
WHITE = (255, 255, 255)


class Place(Protocol):
    """Where the bytes of a picture are; ``str(place)`` names it to the user."""

    def read(self, size: int = -1) -> bytes:
        """Its first ``size`` bytes, or all of them."""
        ...


class File(str):
    """The path of a file."""

    __slots__ = ()

    def read(self, size: int = -1) -> bytes:
        # A Path for each of millions takes a tenth of the time of small pictures.
        with open(self, "rb") as file:  # noqa: PTH123
            return file.read(size)


def is_named_eight_bits(place: Place) -> bool:
    """Says its name that it has no more? (If it has, it is refused when it is read.)"""
    return str(place).lower().endswith(_EIGHT_BITS)


def color(name: str) -> tuple[int, int, int]:
    """``white``, ``#RRGGBB`` and the like -> red, green, blue of 0..255."""
    return ImageColor.getrgb(name)[:3]


def unreadable(place: Place, error: Exception) -> UserError:
    """What the user is told of a picture that cannot be read, for whatever reason."""
    told = "not a supported image format" if isinstance(error, UnidentifiedImageError) else str(error)
    do = "repair or remove it, or leave it out with --on-bad-image null"
    return UserError("a readable image", f"{place} ({told or type(error).__name__})", do)


def size_of(place: Place) -> tuple[int, int]:
    """(width, height) as stored. Raises ``UserError`` where it is no picture."""
    try:
        with _opened(place.read()) as image:
            return image.size
    except Exception as error:
        raise unreadable(place, error) from error


def value_range(place: Place) -> Range | None:
    """(smallest, largest) value of a picture of more than 8 bits; None for any other.

    Raises ``UserError`` where it can't be read.
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
    """Has the picture, as stored, more than one color or opacity?"""
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
    """Its header is read, and the checksums of a PNG are compared."""
    if data.startswith(SIGNATURE):
        check_png(data)
    # Of the many formats that Pillow knows, some start other programs.
    return Image.open(io.BytesIO(data), formats=_FORMATS)


def read_picture(
    place: Place, background: tuple[int, int, int] = WHITE, pixel_range: Range | None = OWN
) -> Tensor:
    """uint8 (3, H, W): upright, RGB, as large as it is; transparent parts show ``background``.

    Values of more than 8 bits are scaled: the two of ``pixel_range`` become 0 and 255; by default those of
    the picture (0, or its least value if negative, and its largest). Raises ``UserError`` with the place
    where there is no whole picture: also one that ends early, or whose values are not all finite.
    """
    try:
        return torch.from_numpy(_decode(place.read(), background, pixel_range)).permute(2, 0, 1)
    # Whatever a damaged file makes a decoder raise, MemoryError among it, is that file's fault.
    except Exception as error:
        raise unreadable(place, error) from error


def read_image(
    place: Place,
    resize: int,
    crop: int,
    background: tuple[int, int, int] = WHITE,
    pixel_range: Range | None = OWN,
) -> Tensor:
    """uint8 (3, crop, crop): short side to ``resize``, the center of that; the same holds."""
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
    """Of a picture that resizing would make huge, such as 1 x 40,000, the part that cropping leaves."""
    height, width = pixels.shape[1:]
    short, long = sorted((height, width))
    if resize * resize * long / short <= height * width + 4 * crop * crop:
        return pixels
    # With a margin for the filter; as far from both ends, so that the center stays where it is.
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
    """1 to 8, as EXIF has it; 1 where it has none that makes sense, and where the decoder turns by itself."""
    if image.format == "TIFF":
        return 1
    try:
        return image.getexif().get(0x0112, 1)
    except Exception:
        return 1


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W, 3) as stored -> as it is meant to be seen."""
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
    """``files[ids]`` is uint8 (B, 3, crop, crop), channels last, decoded when it is asked for."""

    places: Sequence[Place]
    resize: int
    crop: int
    background: tuple[int, int, int] = WHITE
    pixel_range: Range | None = None
    """None: none of them has more than 8 bits."""

    def picture(self, i: int) -> Tensor:
        """uint8 (3, H, W): one of them, as large as it is."""
        return read_picture(self.places[i], self.background, self.pixel_range)

    def __getitem__(self, ids: Sequence[int]) -> Tensor:
        images = torch.empty(len(ids), self.crop, self.crop, 3, dtype=torch.uint8).permute(0, 3, 1, 2)
        for image, i in zip(images, ids, strict=True):
            how = self.resize, self.crop, self.background, self.pixel_range
            image.copy_(read_image(self.places[i], *how))
        return images
