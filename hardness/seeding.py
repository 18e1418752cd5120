"""Random numbers: every use has its own stream, identified by a seed and a name.

Streams of different names are independent, so that a draw added in one place changes no other place, and no
state of a global generator is saved: a run that resumes at epoch 7 uses the stream of epoch 7. (A stream
and the same stream with an appended 0 are equal, so a name is always used with the same number of integers.)
"""

import zlib

import numpy as np


def sequence(seed: int, *stream: str | int) -> np.random.SeedSequence:
    """The seed sequence of a stream, e.g. ``sequence(seed, "order", epoch)``."""
    words = [zlib.crc32(part.encode()) if isinstance(part, str) else int(part) for part in stream]
    return np.random.SeedSequence([seed, *words])


def generator(seed: int, *stream: str | int) -> np.random.Generator:
    """A NumPy generator for a stream."""
    return np.random.default_rng(sequence(seed, *stream))


def derive(seed: int, *stream: str | int) -> int:
    """A new 32-bit seed: for a network's initialization, or for a run inside another run."""
    return int(sequence(seed, *stream).generate_state(1)[0])
