"""Check the checksums of PNG chunks, which Pillow does not do for the pixels."""

import struct
import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_IN_THE_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT")
_HEAD, _CHECKSUM = struct.Struct(">I4s"), struct.Struct(">I")


def check_png(data: bytes) -> None:
    """Raise ``ValueError`` if a chunk that affects the pixels is damaged or truncated."""
    position = len(SIGNATURE)
    while position + _HEAD.size <= len(data):
        length, kind = _HEAD.unpack_from(data, position)
        end = position + _HEAD.size + length
        if kind == b"IEND":
            return
        if kind in _IN_THE_PIXELS:
            if end + _CHECKSUM.size > len(data):
                raise ValueError(f"the file ends in chunk {kind.decode()}")
            if zlib.crc32(data[position + 4 : end]) != _CHECKSUM.unpack_from(data, end)[0]:
                raise ValueError(f"wrong checksum of chunk {kind.decode()}")
        position = end + _CHECKSUM.size
