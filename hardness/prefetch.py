"""Compute results in background threads before they are needed."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch(
    work: Callable[[Item], Result], items: Iterable[Item], workers: int = 1, depth: int | None = None
) -> Iterator[Result]:
    """``work(item)`` for each item in order, by ``workers`` threads, at least one.

    Up to ``depth`` results are prefetched, by default two per thread. An exception of ``work`` is raised when
    its result is due.
    """
    items, threads = iter(items), max(1, workers)
    pool = ThreadPoolExecutor(threads, "hardness-prefetch")
    try:
        coming = deque(pool.submit(work, item) for item in itertools.islice(items, depth or 2 * threads))
        while coming:
            result = coming.popleft().result()
            coming.extend(pool.submit(work, item) for item in itertools.islice(items, 1))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)
