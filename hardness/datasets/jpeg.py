"""Decode JPEG files, and report the damage that other decoders hide.

libjpeg decodes a damaged file anyway and makes up the missing pixels, with only a warning. Pillow and
torchvision drop that warning; simplejpeg, which uses the same libjpeg-turbo, returns it.
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
# Invalid header values, and the value that libjpeg uses instead.
_REPAIRS = {
    "Warning: unknown JFIF revision number": (re.compile(rb"(\xff\xe0..JFIF\0).", re.DOTALL), b"\x01"),
    "Unknown Adobe color transform code": (re.compile(rb"(\xff\xee..Adobe.{6}).", re.DOTALL), b"\x01"),
    "Invalid SOS parameters for sequential JPEG": (
        re.compile(rb"(\xff\xda\0(?:\x08\x01..|\x0a\x02....|\x0c\x03.{6}|\x0e\x04.{8}))...", re.DOTALL),
        b"\x00\x3f\x00",
    ),
}
_START_OF_SCAN, _MARKER = b"\xff\xda", re.compile(rb"\xff[^\x00\xff]")
_MOST_REPAIRS = 100
_ORIENTATION, _LONG = 0x0112, 4
_EXIF = re.compile(rb"\xff\xe1..Exif\0\0", re.DOTALL)


class Damaged(ValueError):
    """The decoder made up some of the pixels."""


def decode_jpeg(data: bytes) -> np.ndarray | None:
    """uint8 (H, W, 3), as stored; None if another decoder is needed (CMYK, 12 bits).

    Raises ``Damaged`` if the file is truncated or some pixels would be made up. Faults that change no pixel
    are ignored, such as extra bytes between two segments.
    """
    for _ in range(_MOST_REPAIRS):
        try:
            return _strictly(data)
        except ValueError as error:
            warning = str(error)
        if warning.startswith(_DAMAGE) and not _is_harmless(warning):
            raise Damaged(warning)
        # The decoder reports only the first fault: remove it to see the next one.
        data = _repaired(data, warning)
        if data is None:
            return None
    raise Damaged(f"more than {_MOST_REPAIRS} faults")


def _is_harmless(warning: str) -> bool:
    """Extra bytes between segments are harmless, but before a restart marker they mean lost data."""
    found = _EXTRANEOUS.match(warning)
    return found is not None and int(found[2], 16) not in _RESTARTS


def _repaired(data: bytes, warning: str) -> bytes | None:
    """The file without a fault that changes no pixel; None if the fault is of another kind."""
    if found := _EXTRANEOUS.match(warning):
        return _without_in_header(data) or _without(data, int(found[1]), int(found[2], 16), warning)
    for beginning, (segment, usual) in _REPAIRS.items():
        if warning.startswith(beginning) and segment.search(data):
            return segment.sub(lambda found, usual=usual: found[1] + usual, data)
    return None


def _without_in_header(data: bytes) -> bytes | None:
    """The file without the first extra bytes in its header; None if there are none."""
    position = 2
    while position + 4 <= len(data) and data[position : position + 2] != _START_OF_SCAN:
        if data[position] != 0xFF:
            marker = _MARKER.search(data, position)
            return data[:position] + data[marker.start() :] if marker else None
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return None


def orientation(data: bytes) -> int:
    """The EXIF orientation, 1 to 8; 1 if there is none or it is invalid."""
    found = _EXIF.search(data)
    if not found:
        return 1
    tiff = memoryview(data)[found.end() :]
    order = ">" if tiff[:2] == b"MM" else "<"
    try:
        (first,) = struct.unpack_from(f"{order}I", tiff, 4)
        (num_tags,) = struct.unpack_from(f"{order}H", tiff, first)
        for position in range(first + 2, first + 2 + 12 * num_tags, 12):
            tag, kind = struct.unpack_from(f"{order}HH", tiff, position)
            if tag == _ORIENTATION:
                return struct.unpack_from(f"{order}{'I' if kind == _LONG else 'H'}", tiff, position + 8)[0]
    except struct.error:
        pass
    return 1


def _strictly(data: bytes) -> np.ndarray | None:
    """Raises ``ValueError`` with the decoder's first warning."""
    height, width, color_space, _ = simplejpeg.decode_jpeg_header(data)
    # Pillow's limit.
    if height * width > 2 * (Image.MAX_IMAGE_PIXELS or math.inf):
        raise Image.DecompressionBombError(f"{height} x {width} pixels: it may be a decompression bomb")
    if color_space in ("CMYK", "YCCK"):
        # simplejpeg's conversion to RGB rounds differently from Pillow's.
        simplejpeg.decode_jpeg(data, "CMYK")
        return None
    return simplejpeg.decode_jpeg(data, "RGB")


def _without(data: bytes, num_bytes: int, marker: int, warning: str) -> bytes | None:
    """The file without the extra bytes before that marker; None if they are not found."""
    for found in re.finditer(re.escape(bytes([0xFF, marker])), data):
        shorter = data[: found.start() - num_bytes] + data[found.start() :]
        try:
            _strictly(shorter)
        except ValueError as error:
            if str(error) == warning:
                continue
        return shorter
    return None
