"""Images of more than 8 bits per channel (16 or 32 bits, floats): their values, scaled to 8 bits.

Pillow reads gray images of this kind, but only the upper 8 bits of color images, so OpenCV reads those.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from hardness.datasets.png import SIGNATURE

Range = tuple[float, float]
"""The values that become 0 and 255."""
OWN: Range = ()
"""The range of each image itself."""
_EIGHT_BIT_FORMATS = (b"\xff\xd8", b"GIF8", b"RIFF", b"BM")
_BIT_DEPTH = 24
"""Its offset in a PNG."""
_TIFF_BITS, _TIFF_PHOTOMETRIC, _TIFF_EXTRA, _TIFF_FORMAT = 258, 262, 338, 339
_UNSIGNED = 1
_PREMULTIPLIED, _OPACITY = 1, 2
_ROWS_AT_ONCE = 64
HEAD = 32


@dataclass(frozen=True)
class Values:
    colors: np.ndarray
    """(H, W) gray or (H, W, 3) RGB."""
    opacity: np.ndarray | None
    """float32 (H, W) in 0..1; None: fully opaque."""
    zero_is_white: bool = False


def may_be_deep(head: bytes) -> bool:
    """Judging by its first ``HEAD`` bytes, could an image have more than 8 bits?"""
    if head.startswith(SIGNATURE):
        return head[_BIT_DEPTH : _BIT_DEPTH + 1] == b"\x10"
    return not (head.startswith(_EIGHT_BIT_FORMATS) or head[4:8] == b"ftyp")


def values_of(image: Image.Image, data: bytes) -> Values | None:
    """The values as they are in the file; None for an image of 8 bits or fewer.

    Raises ``ValueError`` if some are not finite.
    """
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        found = _of_gray(image)
    elif _num_bits(image, data) > 8:
        found = _of_colors(image, data)
    else:
        return None
    if not (np.isfinite(found.colors.min()) and np.isfinite(found.colors.max())):
        raise ValueError("NaN or infinite values")
    return found


def _of_gray(image: Image.Image) -> Values:
    colors = np.asarray(image)
    is_tiff = image.format == "TIFF"
    if is_tiff and colors.dtype == np.int32 and _tag(image, _TIFF_FORMAT, _UNSIGNED) == _UNSIGNED:
        # Pillow has no mode for uint32. The values of 16-bit files are the same in both types.
        colors = colors.view(np.uint32)
    transparent = image.info.get("transparency")
    is_value = isinstance(transparent, int)
    opacity = np.float32(colors != transparent) if is_value else None
    zero_is_white = is_tiff and _tag(image, _TIFF_PHOTOMETRIC, 1) == 0
    return Values(colors, opacity, zero_is_white)


def _of_colors(image: Image.Image, data: bytes) -> Values:
    try:
        import cv2
    except ImportError as error:
        reason = "reading colors of more than 8 bits needs `pip install 'hardness-toolkit[deep-color]'`"
        raise ValueError(reason) from error
    # OpenCV would print a warning about a damaged file without its name.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if found is None:
        raise ValueError("colors of more than 8 bits that OpenCV cannot read")
    if found.ndim == 2:
        return Values(found, None)
    opacity = None
    extra = _tag(image, _TIFF_EXTRA, _OPACITY) if image.format == "TIFF" else _OPACITY
    if found.shape[2] == 4 and extra == _PREMULTIPLIED:
        raise ValueError("premultiplied alpha is not supported for more than 8 bits")
    # The fourth band of a satellite image may be another color.
    if found.shape[2] == 4 and extra == _OPACITY:
        most = np.iinfo(found.dtype).max if found.dtype.kind in "iu" else 1.0
        opacity = np.float32(found[..., 3]) / np.float32(most)
    # OpenCV orders them as blue, green, red.
    return Values(found[..., 2::-1], opacity)


def _num_bits(image: Image.Image, data: bytes) -> int:
    """Bits per channel in the file; 8 if the format has no more."""
    if image.format == "PNG":
        return data[_BIT_DEPTH]
    if image.format == "TIFF":
        return int(np.max(_tag(image, _TIFF_BITS, 8)))
    if image.format == "PPM":
        # If the largest value is not 255, it is an argument of the decoder.
        most = [each for tile in image.tile if isinstance(tile.args, tuple) for each in tile.args[1:2]]
        return max(most, default=255).bit_length()
    return 8


def _tag(image: Image.Image, number: int, otherwise: int) -> int | tuple[int, ...]:
    found = image.tag_v2.get(number, otherwise)
    return found[0] if isinstance(found, tuple) and len(set(found)) == 1 else found


def to_eight_bits(values: Values, background: tuple[int, int, int], pixel_range: Range | None) -> np.ndarray:
    """uint8 (H, W, 3): ``pixel_range`` scaled to 0..255, rounded, and clipped.

    Raises ``ValueError`` if there is no range.
    """
    if pixel_range is None:
        raise ValueError("it has more than 8 bits, unlike the other images: set --pixel-range LOW HIGH")
    low, high = pixel_range or full_range(values.colors.min().item(), values.colors.max().item())
    pixels = np.empty((*values.colors.shape[:2], 3), np.uint8)
    # A few rows at a time, since floats take at least four times the memory.
    for first in range(0, len(pixels), _ROWS_AT_ONCE):
        rows = slice(first, first + _ROWS_AT_ONCE)
        scaled = levels(values.colors[rows], low, high)
        scaled = 255 - scaled if values.zero_is_white else scaled
        scaled = scaled if scaled.ndim == 3 else scaled[..., None]
        if values.opacity is not None:
            opacity = values.opacity[rows, :, None]
            scaled = scaled * opacity + np.float32(background) * (1 - opacity)
        pixels[rows] = np.rint(scaled)
    return pixels


def levels(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """float64, rounded to whole numbers in 0..255."""
    scale = 255 / (high - low) if high > low else 0.0
    return np.rint((values.astype(np.float64) - low) * scale).clip(0, 255)


def full_range(smallest: float, largest: float) -> tuple[float, float]:
    """From 0, or the smallest value if negative, to the largest."""
    return min(0.0, smallest), largest
