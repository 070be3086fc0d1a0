"""The heap of a worker is one, and what is free on it can be given back."""

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes
import os

from ddgm_dist.engine.host import give_back_memory, keep_one_heap

PAGE = os.sysconf("SC_PAGE_SIZE")


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * PAGE // 2**20


keep_one_heap()
before = resident()
held = [bytearray(2**18) for _ in range(800)]  # 200 MiB
stone = bytearray(2**18)  # on top of them: the heap cannot shrink
full = resident()
del held
free = resident()
give_back_memory()
print(full - before, free - before, resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's heap")
def test_what_is_free_stays_until_it_is_given_back() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    full, free, back = (int(x) for x in done.stdout.split())
    assert full > 190
    assert free > 190  # kept, so that the next step need not fault it in again
    assert back < 20
