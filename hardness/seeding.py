"""Random numbers: every use has a stream of its own, named by a seed and by words.

Streams of different words are independent, so that adding a draw in one place changes nothing in another,
and nothing needs the state of a global generator: a run that resumes at epoch 7 just asks for epoch 7. (A
stream and the same one with a 0 behind are equal: a name always goes with as many numbers.)
"""

import zlib

import numpy as np


def sequence(seed: int, *stream: str | int) -> np.random.SeedSequence:
    """The seed sequence of a stream, e.g. ``sequence(seed, "order", epoch)``."""
    words = [zlib.crc32(part.encode()) if isinstance(part, str) else int(part) for part in stream]
    return np.random.SeedSequence([seed, *words])


def generator(seed: int, *stream: str | int) -> np.random.Generator:
    """A numpy generator for a stream."""
    return np.random.default_rng(sequence(seed, *stream))


def derive(seed: int, *stream: str | int) -> int:
    """A new 32-bit seed: for a network's first weights, or a whole run inside another."""
    return int(sequence(seed, *stream).generate_state(1)[0])
