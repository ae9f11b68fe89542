"""How the C library deals with freed memory, in judges and in runners alike."""

import ctypes

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
"""Of `mallopt(3)`."""
KEPT = {MMAP_THRESHOLD: 32 << 20, TRIM_THRESHOLD: 1 << 30, TOP_PAD: 64 << 20}


def keep_freed() -> None:
    """Use freed memory again: asking for it anew, page by page, costs more than most sums.

    Called once in a process; without effect where the C library is not glibc.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        for option, value in KEPT.items():
            libc.mallopt(option, value)
