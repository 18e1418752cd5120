"""JPEG files -> pixels, or the error that other decoders hide.

libjpeg goes on where a file is damaged, and makes up the pixels that it lacks: its warning is all that tells.
Pillow and torchvision drop the warning; simplejpeg, on the same libjpeg-turbo, returns it.
"""

import math
import re
import struct

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
_ORIENTATION = 0x0112


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


def orientation(data: bytes) -> int:
    """1 to 8, as EXIF has it; 1 where it has none that makes sense."""
    start = data.find(b"Exif\0\0") + 6
    # Of each segment: marker, length, contents.
    if start < 12 or data[start - 10 : start - 8] != b"\xff\xe1":
        return 1
    tiff = memoryview(data)[start:]
    order = ">" if tiff[:2] == b"MM" else "<"
    try:
        (first,) = struct.unpack_from(f"{order}I", tiff, 4)
        (num_tags,) = struct.unpack_from(f"{order}H", tiff, first)
        for position in range(first + 2, first + 2 + 12 * num_tags, 12):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, position)
            if tag == _ORIENTATION:
                return value
    except struct.error:
        pass
    return 1


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
