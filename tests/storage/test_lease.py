"""One holder at a time, and none for ever."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.storage.lease import Lease

HOLD = """
import sys, time
from ddgm_dist.storage.lease import Lease
with Lease(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.zarr"


def file(out: Path) -> Path:
    return out / "ddgm_dist/lease.json"


def test_a_second_one_is_told_who_holds_it(out: Path) -> None:
    with Lease(out), pytest.raises(InputError, match=f"process {os.getpid()} on .* runs until"):
        Lease(out).acquire()
    assert not file(out).exists()
    with Lease(out):
        assert file(out).exists()


def test_of_many_at_once_one_gets_it(out: Path) -> None:
    leases, got = [Lease(out) for _ in range(12)], []
    start = threading.Barrier(len(leases))

    def take(lease: Lease) -> None:
        start.wait()
        try:
            lease.acquire()
            got.append(lease)
        except InputError:
            pass

    threads = [threading.Thread(target=take, args=(lease,)) for lease in leases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1
    got[0].release()


def test_it_is_renewed_while_it_is_held(out: Path) -> None:
    with Lease(out, duration=0.6, renew_every=0.1) as lease:
        time.sleep(1.2)
        lease.check()
        with pytest.raises(InputError):
            Lease(out).acquire()


def other_host(out: Path, expires: float) -> None:
    held = {"owner": "x", "host": "elsewhere", "pid": 1, "process_started": "7", "expires": expires}
    file(out).parent.mkdir(parents=True, exist_ok=True)
    file(out).write_text(json.dumps(held))


def test_one_of_another_host_is_taken_over_when_it_has_expired(out: Path) -> None:
    other_host(out, time.time() + 60)
    with pytest.raises(InputError, match="process 1 on elsewhere"):
        Lease(out).acquire()
    other_host(out, time.time() - 1)
    with Lease(out):
        pass


def test_one_that_was_not_renewed_is_renewed_when_it_is_asked_for(out: Path) -> None:
    """A process that was stopped for a while goes on if nobody came, and only then."""
    with Lease(out, duration=0.2, renew_every=60) as lease:
        time.sleep(0.3)
        before = json.loads(file(out).read_text())["expires"]
        lease.check()
        assert json.loads(file(out).read_text())["expires"] > before
        time.sleep(0.3)
        other_host(out, time.time() + 60)
        with pytest.raises(StorageError, match="another has taken over"):
            lease.check()


def test_one_that_has_expired_and_cannot_be_renewed_is_not_held(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **more: object) -> None:
        raise StorageError("no room")

    with Lease(out, duration=0.2, renew_every=60) as lease:
        monkeypatch.setattr(lease, "_write", refuse)
        lease.check()
        time.sleep(0.3)
        with pytest.raises(StorageError, match="no room"):
            lease.check()


def test_a_holder_learns_that_it_was_taken_over(out: Path) -> None:
    lease = Lease(out, renew_every=0.05)
    with lease:
        lease.check()
        other_host(out, time.time() + 60)
        time.sleep(0.4)
        with pytest.raises(StorageError, match="another has taken over"):
            lease.check()
    assert json.loads(file(out).read_text())["host"] == "elsewhere"  # and leaves it alone


def test_that_of_a_killed_process_of_this_host_is_free(out: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(out)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with pytest.raises(InputError, match=f"process {process.pid} "):
        Lease(out).acquire()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with Lease(out):
        pass


def test_process_numbers_mean_nothing_to_another_container_of_this_host(out: Path) -> None:
    held = {"owner": "x", "host": socket.gethostname(), "pid": 2**22, "process_started": "7"}
    held |= {"expires": time.time() + 60}
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    file(out).parent.mkdir(parents=True)
    for machine in (f"{boot}/pid:[1]", "", None):
        file(out).write_text(json.dumps({**held, "machine": machine}))
        with pytest.raises(InputError, match="process 4194304 on"):
            Lease(out).acquire()


def test_what_cannot_be_read_is_free(out: Path) -> None:
    file(out).parent.mkdir(parents=True)
    file(out).write_text("{")
    with Lease(out):
        pass
