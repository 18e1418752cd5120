"""Compute results in background threads before they are needed."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(
    work: Callable[[Item], Result], items: Iterable[Item], *, threads: int, depth: int
) -> Iterator[Result]:
    """``work(item)`` for each item in order, by ``threads``, with up to ``depth`` results prefetched.

    An exception of ``work`` is raised when its result is due.
    """
    items = iter(items)
    pool = ThreadPoolExecutor(threads, "hardness-ahead")
    try:
        coming = deque(pool.submit(work, item) for item in itertools.islice(items, depth))
        while coming:
            result = coming.popleft().result()
            coming.extend(pool.submit(work, item) for item in itertools.islice(items, 1))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)
