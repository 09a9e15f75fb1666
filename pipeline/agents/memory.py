"""How a worker's memory is taken from the system: once, not for every message."""

import ctypes
import sys

M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_ARENA_MAX = -3, -1, -8
"""Options of mallopt(3), from glibc's malloc.h."""

LARGEST = 32 * 1024 * 1024
"""Bytes; glibc takes no greater threshold."""


def keep_freed_memory() -> bool:
    """Have freed memory used again instead of given back; return whether the C library can.

    A message is about a megabyte, and so is each of the copies that the Kafka client makes of it.
    glibc takes blocks that large from the system one by one and gives each back when it is freed, so
    every page of every copy is a page fault: half of the CPU time of sending.
    """
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    set_option = library.mallopt
    # One arena: memory that the fetching thread has freed serves the other one as well.
    wanted = ((M_MMAP_THRESHOLD, LARGEST), (M_TRIM_THRESHOLD, 2 * LARGEST), (M_ARENA_MAX, 1))
    return all(set_option(option, value) == 1 for option, value in wanted)
