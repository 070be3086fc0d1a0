"""One holder at a time, and none for ever; in a folder and by conditional writes to an object store.

Where a test has `clock`, the lease's seconds pass in its naps only, so 30 s take no time.
"""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.inspection.status import status
from ddgm_dist.paths.files import read_bytes, write_bytes
from ddgm_dist.paths.locate import locate
from ddgm_dist.paths.place import Place
from ddgm_dist.records import lease as module
from ddgm_dist.records import lease_holder
from ddgm_dist.records.lease import LAPSE, Lease
from ddgm_dist.records.lease_holder import is_stopped

HOLD = """
import sys, time
from ddgm_dist.paths.locate import locate
from ddgm_dist.records.lease import Lease
with Lease(locate(sys.argv[1], "out")):
    print("held", flush=True)
    time.sleep(600)
"""
HOLD_UNTIL_TOLD = """
import sys, time
from ddgm_dist.errors import StorageError
from ddgm_dist.paths.locate import locate
from ddgm_dist.records.lease import Lease
with Lease(locate(sys.argv[1], "out"), renew_every=2) as lease:
    print("held", flush=True)
    sys.stdin.readline()
    until = time.monotonic() + 300
    try:
        while time.monotonic() < until:
            lease.check()
            time.sleep(0.05)
    except StorageError as error:
        print(error)
"""
# As a release before this wrote it.
ELSEWHERE = {"owner": "x", "host": "elsewhere", "pid": 1, "process_started": "7", "expires": 4e9}


@pytest.fixture(params=["folder", "bucket"])
def out(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "folder":
        return tmp_path / "out.zarr"
    return locate(f"{request.getfixturevalue('bucket')}/{uuid.uuid4().hex}/out.zarr", "out")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "out.zarr"


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """No two drivers are on the same machine."""
    monkeypatch.setattr(lease_holder, "machine", lambda: "")


class Clock:
    """Stands still, but in naps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.meanwhile: Callable[[], None] = lambda: None

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.meanwhile()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(lease_holder, "now", lambda: made.now)
    # The module's own name for it: the tests' server and other threads keep theirs.
    monkeypatch.setattr(module, "time", SimpleNamespace(**{**vars(time), "sleep": made.sleep}))
    return made


def place(out: Place) -> Any:
    return out / "ddgm_dist/lease.json"


def there(out: Place) -> Any:
    found = read_bytes(place(out))
    return None if found is None else json.loads(found)


def put(out: Place, **more: Any) -> None:
    write_bytes(place(out), json.dumps({**ELSEWHERE, **more}).encode())


def held(out: Place, **more: Any) -> Lease:
    """A lease that is renewed only when a test says so, by default."""
    lease = Lease(out, **{"renew_every": 1000, **more})
    lease.acquire()
    return lease


def until(happens: Callable[[], bool], seconds: float = 300.0) -> None:
    """Wait for what a thread does; a busy machine may take long over it."""
    end = time.monotonic() + seconds
    while not happens() and time.monotonic() < end:
        time.sleep(0.02)


def refused(lease: Lease) -> bool:
    """Whether the holder has learnt that it was taken over."""
    try:
        lease.check()
    except StorageError:
        return True
    return False


def all_at_once(out: Place, count: int) -> tuple[list[Lease], int]:
    """Many try to take a lease: who got it, and how many were refused."""
    got: list[Lease] = []
    refused: list[InputError] = []
    start = threading.Barrier(count)

    def take() -> None:
        lease = Lease(out)
        start.wait()
        try:
            lease.acquire()
            got.append(lease)
        except InputError as error:
            refused.append(error)

    threads = [threading.Thread(target=take) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return got, len(refused)


# -- one holder -----------------------------------------------------------------------------------


def test_a_second_one_is_refused_at_once_until_it_is_given_back(
    out: Place, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with Lease(out), pytest.raises(InputError, match=f"by process {os.getpid()} on "):
        Lease(out).acquire()
    assert clock.now == 1000.0
    assert there(out) is None
    with Lease(out):
        assert there(out) is not None
    assert caplog.records == []


def test_of_many_at_once_one_gets_it(out: Place) -> None:
    got, refused = all_at_once(out, 10)
    assert (len(got), refused) == (1, 9)
    got[0].release()
    assert there(out) is None


def test_a_holder_learns_that_it_was_taken_over(out: Place) -> None:
    with Lease(out, renew_every=0.05) as lease:
        lease.check()
        put(out)
        until(lambda: refused(lease))
        with pytest.raises(StorageError, match="another has taken over"):
            lease.check()
    assert there(out) == ELSEWHERE  # and leaves it alone


@pytest.mark.parametrize("reaped", [True, False])
def test_that_of_a_killed_process_of_this_machine_is_free_at_once(
    folder: Path, reaped: bool
) -> None:
    """Also before its parent has asked after it, as some never do."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, folder], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    began = time.monotonic()
    with pytest.raises(InputError, match=f"process {process.pid} "):
        Lease(folder).acquire()
    process.send_signal(signal.SIGKILL)
    if reaped:
        process.wait()
    else:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    process.stdout.close()
    with Lease(folder):
        pass
    process.wait()
    assert time.monotonic() - began < 15


def test_what_cannot_be_read_is_free_at_once(folder: Path, clock: Clock) -> None:
    for text in (b"{", b"[]", b"\xff", *(json.dumps({**ELSEWHERE, "duration": d}).encode() for d in (
        0, -1, float("nan"), float("inf"), "long"))):  # fmt: skip
        write_bytes(place(folder), text)
        with Lease(folder):
            pass
    assert clock.now == 1000.0


# -- another machine's ----------------------------------------------------------------------------


@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize("skew", [-3600.0, 0.0, 3600.0])
def test_clocks_that_differ_change_nothing(
    out: Place, skew: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, main = time.time, threading.main_thread()
    monkeypatch.setattr(
        time, "time", lambda: real() + skew * (threading.current_thread() is main)
    )  # holders renew in threads of their own
    with Lease(out, duration=20, renew_every=2) as lease:
        began = time.monotonic()
        time.sleep(0.2)
        with pytest.raises(InputError, match="is being written by process"):
            Lease(out).acquire()
        assert time.monotonic() - began < 10
        lease.check()
    dead = held(out, duration=0.4)
    began = time.monotonic()
    with Lease(out):
        assert time.monotonic() - began >= 0.4
        with pytest.raises(StorageError, match="another has taken over"):
            dead.check()
        dead.release()


@pytest.mark.usefixtures("apart")
def test_of_many_that_watch_one_gets_it(out: Place) -> None:
    dead = held(out, duration=0.4)
    got, refused = all_at_once(out, 8)
    assert (len(got), refused) == (1, 7)
    assert there(out)["owner"] == got[0].owner
    got[0].check()
    got[0].release()
    dead.release()


@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize("duration", [30.0, 7.0])
def test_it_is_taken_when_it_was_watched_for_its_own_duration(
    out: Place, duration: float, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    dead = held(out, duration=duration)
    clock.now += 1000  # since when it has been there says nothing
    began = clock.now
    with Lease(out):
        assert duration <= clock.now - began < 1.01 * duration
    dead.release()
    (record,) = caplog.records
    assert f"process {os.getpid()} on {socket.gethostname()} held the lease" in record.getMessage()
    assert f"watching for {duration:.0f} s at most" in record.getMessage()


@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize("at", [0.5, 15.0, 29.5])
def test_one_renewal_in_the_while_and_it_is_refused(out: Place, at: float, clock: Clock) -> None:
    lease = held(out)
    renewed: list[float] = []

    def renew() -> None:
        if clock.now >= 1000 + at and not renewed:
            lease._renew_once()
            renewed.append(clock.now)

    clock.meanwhile = renew
    with pytest.raises(InputError, match="is being written by process"):
        Lease(out).acquire()
    assert renewed == [clock.now]  # at once
    lease.check()
    lease.release()


@pytest.mark.usefixtures("apart")
def test_one_that_is_given_back_in_the_while_is_taken_at_once(out: Place, clock: Clock) -> None:
    lease = held(out)
    clock.meanwhile = lease.release
    with Lease(out):
        assert clock.now == 1001.0


@pytest.mark.usefixtures("apart")
def test_a_holder_that_cannot_renew_stops_well_before_others_take_over(
    folder: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when others begin to watch just after its last renewal."""
    lease, wrote = held(folder), []

    def refuse(*args: object, **more: object) -> None:
        raise StorageError("no room")

    def write() -> None:
        try:
            lease.check()
            wrote.append(clock.now)
        except StorageError:
            pass

    monkeypatch.setattr(lease, "_write", refuse)
    clock.meanwhile = write
    with Lease(folder):
        assert wrote
        assert clock.now - max(wrote) >= (1 - LAPSE) * 30 - 1e-6
    with pytest.raises(StorageError, match="no room"):
        lease.check()
    lease.release()


def test_process_numbers_mean_nothing_to_another_container_of_this_host(
    folder: Path, clock: Clock
) -> None:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    dead = {"host": socket.gethostname(), "pid": 2**22}
    for machine in (f"{boot}/pid:[1]", "", None):
        put(folder, machine=machine, **dead)
        began = clock.now
        with Lease(folder):
            assert clock.now - began >= 30


# -- renewals -------------------------------------------------------------------------------------


def test_it_is_renewed_while_it_is_held(out: Place) -> None:
    with Lease(out, duration=6, renew_every=0.05) as lease:
        before = there(out)
        until(lambda: there(out)["count"] > before["count"])
        lease.check()
        after = there(out)
        assert after["count"] > before["count"]
        assert after["expires"] > before["expires"]


def test_every_renewal_is_seen_whatever_the_clocks_say(
    out: Place, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An object's generation may be but a hash of what it holds."""
    monkeypatch.setattr(time, "time", lambda: 1.7e9)
    lease, seen = held(out), set()
    for _ in range(5):
        lease._renew_once()
        seen.add(lease._read().stamp.generation)
    assert len(seen) == 5
    lease.release()


@pytest.mark.usefixtures("apart")
def test_one_that_has_lapsed_is_renewed_when_it_is_asked_for(out: Place, clock: Clock) -> None:
    """A process that was stopped for a while goes on if nobody came, and only then."""
    lease = held(out)
    first, before = lease._count, there(out)
    lease.check()
    assert there(out) == before
    clock.now += 1000
    lease.check()
    assert there(out)["count"] == first + 1
    clock.now += 1000
    put(out)
    with pytest.raises(StorageError, match="another has taken over"):
        lease.check()
    lease.release()


def test_one_that_takes_long_to_renew_is_not_counted_on(
    folder: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = held(folder)
    write = lease._write

    def slowly(*args: Any, **more: Any) -> bytes | None:
        clock.now += 21
        return write(*args, **more)

    monkeypatch.setattr(lease, "_write", slowly)
    lease.check()
    clock.now += 21
    with pytest.raises(StorageError, match="took longer than 20 s, 3 times in a row"):
        lease.check()
    monkeypatch.undo()


def test_a_living_process_of_this_machine_that_does_not_renew_is_watched(
    folder: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is halted; or it gave the lease back, and the store did not delete it."""
    lease = held(folder)
    with pytest.raises(InputError, match="is being written"):
        Lease(folder).acquire()
    assert clock.now == 1000.0
    clock.now += 31
    with Lease(folder):
        assert clock.now == 1061.0
    lease.release()


def test_a_stopped_process_of_this_machine_is_called_stopped(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It does not renew its lease, whatever another may say; and it learns that it has lost it."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD_UNTIL_TOLD, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        found = json.loads(read_bytes(place(folder)))
        assert is_stopped(found)
        with pytest.raises(
            InputError, match=f"process {process.pid} on this machine, which is sto"
        ) as told:
            Lease(folder).acquire()
        assert f"`kill -CONT {process.pid}`" in str(told.value)
        assert "renews" not in str(told.value)
        assert status(folder).holder == (
            f"process {process.pid} on {socket.gethostname()}, which is stopped (SIGSTOP)"
        )
        # Its last renewal was long ago: it is watched, as it may be continued, and taken over.
        write_bytes(place(folder), json.dumps({**found, "renewed": 0.0, "duration": 0.2}).encode())
        with Lease(folder):
            assert "is stopped, and held the lease; watching" in caplog.text
            process.send_signal(signal.SIGCONT)
            output, _ = process.communicate("go on\n", timeout=600)
            assert "it was stopped, its machine slept" in output
            assert "another has taken over; nothing is lost" in output
    finally:
        process.kill()
        process.wait()


# -- servers --------------------------------------------------------------------------------------


class Server:
    """What a lease writes to, with faults."""

    def __init__(
        self, store: Any, *, forgetful: bool = False, careless: bool = False, mute: bool = False
    ) -> None:
        self.store, self.forgetful, self.careless, self.mute = store, forgetful, careless, mute

    def read(self, key: str) -> Any:
        return self.store.read(key)

    def write(self, key: str, value: bytes | None, if_equal: bytes | None = None) -> Any:
        if self.careless:
            return self.store.write(key, value)
        if self.forgetful and value is not None:
            self.store.write(key, value, if_equal=if_equal).result()  # its answer is lost
        answer = self.store.write(key, value, if_equal=if_equal)
        if self.mute:
            answer.result()
            raise OSError("no answer")
        return answer


def put_behind(lease: Lease, **faults: bool) -> None:
    server: Any = Server(lease._store, **faults)
    lease._store = server


def test_an_answer_that_is_lost_loses_nothing(out: Place) -> None:
    lease = Lease(out, renew_every=0.05)
    put_behind(lease, forgetful=True)
    with lease:
        time.sleep(0.3)
        lease.check()
        with pytest.raises(InputError, match="is being written"):
            Lease(out).acquire()
    assert there(out) is None


def test_a_renewal_that_was_given_up_but_done_is_not_taken_for_the_next(out: Place) -> None:
    """Those who watch have seen it change then, and not since."""
    lease = held(out)
    first, store = lease._count, lease._store
    put_behind(lease, mute=True)
    with pytest.raises(StorageError):
        lease._renew_once()
    assert there(out)["count"] == first + 1
    lease._store = store
    lease._renew_once()
    lease.check()
    assert there(out)["count"] == first + 2
    lease.release()
    assert there(out) is None


def test_a_server_that_honours_no_conditions_is_found_out(
    bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    out = locate(f"{bucket}/{uuid.uuid4().hex}/out.zarr", "out")
    lease = Lease(out)
    put_behind(lease, careless=True)
    with caplog.at_level(logging.WARNING, "ddgm_dist"), lease:
        assert "does not honour conditional writes" in caplog.text
    assert there(out) is None
