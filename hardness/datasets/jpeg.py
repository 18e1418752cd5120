"""JPEG files -> pixels, or the error that other decoders hide.

libjpeg goes on where a file is damaged, and makes up the pixels that it lacks: its warning is all that tells.
Pillow and torchvision drop the warning; simplejpeg, on the same libjpeg-turbo, returns it.
"""

import math
import re

import numpy as np
import simplejpeg
from PIL import Image

_EXTRANEOUS = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0x([0-9a-f]{2})")
_RESTARTS = range(0xD0, 0xD8)
_DAMAGE = (
    "Premature end of JPEG file",
    "Corrupt JPEG data: ",
    "Inconsistent progression sequence",
)
_MOST_REPAIRS = 16


class Damaged(ValueError):
    """The decoder made up some of the pixels."""


def decode_jpeg(data: bytes) -> np.ndarray | None:
    """uint8 (H, W, 3), as it is stored; None where another decoder must do it (CMYK, 12 bits).

    Raises ``Damaged`` where the file ends early or pixels are made up. What no pixel depends on passes, such
    as superfluous bytes between two segments.
    """
    for _ in range(_MOST_REPAIRS):
        try:
            return _strictly(data)
        except ValueError as error:
            warning = str(error)
        found = _EXTRANEOUS.match(warning)
        if found and (marker := int(found[2], 16)) not in _RESTARTS:
            # The decoder tells of the first fault only: without this one it tells of the next.
            data = _without(data, int(found[1]), marker, warning)
        elif warning.startswith(_DAMAGE):
            raise Damaged(warning)
        if not found or data is None:
            break
    return None


def _strictly(data: bytes) -> np.ndarray | None:
    """Raises ``ValueError`` with the decoder's first warning."""
    height, width, color_space, _ = simplejpeg.decode_jpeg_header(data)
    # As Pillow has it.
    if height * width > 2 * (Image.MAX_IMAGE_PIXELS or math.inf):
        raise Image.DecompressionBombError(f"{height} x {width} pixels: it may be a decompression bomb")
    if color_space in ("CMYK", "YCCK"):
        # Its conversion to RGB rounds otherwise than Pillow's.
        simplejpeg.decode_jpeg(data, "CMYK")
        return None
    return simplejpeg.decode_jpeg(data, "RGB")


def _without(data: bytes, num_bytes: int, marker: int, warning: str) -> bytes | None:
    """The file less the superfluous bytes before that marker; None where they are not found."""
    for found in re.finditer(re.escape(bytes([0xFF, marker])), data):
        shorter = data[: found.start() - num_bytes] + data[found.start() :]
        try:
            _strictly(shorter)
        except ValueError as error:
            if str(error) == warning:
                continue
        return shorter
    return None
