"""One process at a time; a lock ends with its process; what a killed writer left is not gone on with."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ddgm_dist.paths import lock as file_lock
from ddgm_dist.paths.files import compare_and_swap, get_with_etag
from ddgm_dist.paths.lock import locked

HOLDER = """
import sys, time
from pathlib import Path
from ddgm_dist.paths.lock import locked

with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_counting_together_loses_nothing(tmp_path: Path) -> None:
    """Read, wait, write: four at a time."""
    count = tmp_path / "count"
    count.write_text("0")

    def add() -> None:
        for _ in range(10):
            with locked(tmp_path):
                found = int(count.read_text())
                time.sleep(0.001)
                count.write_text(str(found + 1))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count.read_text() == "40"


def test_a_lock_is_waited_for_and_ends_with_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        monkeypatch.setattr(file_lock, "_WAIT", 0.1)
        with pytest.raises(TimeoutError, match="another process has held"), locked(tmp_path):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with locked(tmp_path):
        pass


def test_what_a_killed_writer_left_is_not_gone_on_with(tmp_path: Path) -> None:
    """Under whatever name tensorstore might have left it."""
    path = tmp_path / "a.json"
    for name in ("a.json.__lock", "a.json.tmp", ".a.json.tmp"):
        (tmp_path / name).write_bytes(b"x" * 4096)
    _, stamp = get_with_etag(path)
    assert compare_and_swap(path, b"first", stamp)
    assert path.read_bytes() == b"first"
    assert not compare_and_swap(path, b"second", stamp)
    assert path.read_bytes() == b"first"


def test_of_many_that_replace_the_same_file_one_does(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for n in range(20):
        _, stamp = get_with_etag(path)
        done: list[bool] = []
        threads = [
            threading.Thread(
                target=lambda k=k, done=done, stamp=stamp: done.append(
                    compare_and_swap(path, b"%d" % k, stamp)
                )
            )
            for k in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(done) == 1, n
