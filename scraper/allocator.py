"""Bodies are large and short-lived: keep glibc from giving their pages back to the kernel after each one.

Nothing comes in, nothing goes out; the process's allocator is tuned, once, at run time. Must never: fail.
"""

from __future__ import annotations

import ctypes
import sys

_MIB = 1024 * 1024
# Names and numbers from glibc's malloc.h; values by measurement. By default every body between 128 KiB and
# 32 MiB is mapped or trimmed anew, and faulting its pages in costs several times what copying it does: 1 MB
# through fresh pages takes 1.1 ms, through kept ones 0.5.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_SETTINGS = ((_MMAP_THRESHOLD, 32 * _MIB), (_TRIM_THRESHOLD, 256 * _MIB), (_TOP_PAD, 16 * _MIB))


def tune_allocator() -> bool:
    """Raise glibc's mmap and trim thresholds for this process; RSS then stays at its high-water mark.

    Returns:
        Whether it was done: False where the C library is another.
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    # musl has neither name; other libraries may have mallopt with other meanings.
    if not (hasattr(libc, "gnu_get_libc_version") and hasattr(libc, "mallopt")):
        return False
    done = [libc.mallopt(name, value) == 1 for name, value in _SETTINGS]
    return all(done)
