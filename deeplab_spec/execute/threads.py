"""How many threads a dtype gains from."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def threads_for(dtype: torch.dtype) -> Iterator[None]:
    """Use one thread in float64.

    There the framework convolves channel by channel, and threads that wait for each other at every
    channel take twice the time of the processors for the same result.
    """
    before = torch.get_num_threads()
    if dtype is torch.float64:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
