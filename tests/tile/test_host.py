"""The heap of a worker is one, what is free on it can be given back, and large blocks are not on it."""

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes
import os

from ddgm_dist.tile.host import allocate_as_workers, give_back_memory

PAGE = os.sysconf("SC_PAGE_SIZE")


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * PAGE // 2**20


allocate_as_workers()
before = resident()
large = [bytearray(2**24) for _ in range(12)]  # 192 MiB
above = bytearray(2**18)
most = resident()
del large
print(most - before, resident() - before)

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
def test_small_blocks_stay_until_they_are_given_back_and_large_ones_do_not() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    most, left, full, free, back = (int(x) for x in done.stdout.split())
    assert most > 180
    assert left < 20  # given back at once
    assert full > 190
    assert free > 190  # kept, so that the next step need not fault it in again
    assert back < 20
