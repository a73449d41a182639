"""Batches made in a background thread while the step before them runs."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor

_BATCHES = 2  # made before they are asked for


def ahead(batches):
    """Yield what an iterable yields, which a thread computes ahead, in order.

    The kernels of a step hold no GIL, NumPy and Pillow mostly none: the next
    batches are ready when the step has ended, unless they take longer than it.
    What the iterable raises is raised here.
    """
    iterator, end = iter(batches), object()
    with ThreadPoolExecutor(1, "convcore-data") as pool:
        waiting = deque(pool.submit(next, iterator, end) for _ in range(_BATCHES))
        try:
            while (batch := waiting.popleft().result()) is not end:
                waiting.append(pool.submit(next, iterator, end))
                yield batch
        finally:
            for future in waiting:
                future.cancel()
