"""The lease by conditional writes to an object store."""

import json
import logging
import threading
import time
import uuid
from typing import Any

import pytest

from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.location import locate, read_bytes, write_bytes
from ddgm_dist.storage.lease import Lease


@pytest.fixture
def out(bucket: str) -> str:
    return f"{bucket}/{uuid.uuid4().hex}/out.zarr"


def file(out: str) -> Any:
    return locate(out, "out") / "ddgm_dist/lease.json"


def other_host(out: str, expires: float) -> None:
    held = {"owner": "x", "host": "elsewhere", "pid": 1, "process_started": "7", "expires": expires}
    write_bytes(file(out), json.dumps(held).encode())


def test_a_second_one_is_refused_until_it_is_given_back(
    out: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Lease(out), pytest.raises(InputError, match="is being written by process"):
        Lease(out).acquire()
    assert read_bytes(file(out)) is None
    with Lease(out):
        assert read_bytes(file(out)) is not None
    assert caplog.records == []


def test_of_many_at_once_one_gets_it(out: str) -> None:
    leases, got = [Lease(out) for _ in range(8)], []
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
    assert read_bytes(file(out)) is None


def test_it_is_renewed_and_a_holder_learns_that_it_was_taken_over(out: str) -> None:
    with Lease(out, duration=3, renew_every=0.05) as lease:
        before = json.loads(read_bytes(file(out)) or b"")["expires"]
        time.sleep(0.5)
        lease.check()
        assert json.loads(read_bytes(file(out)) or b"")["expires"] > before
        other_host(out, time.time() + 60)
        time.sleep(0.5)
        with pytest.raises(StorageError, match="another has taken over"):
            lease.check()
    assert json.loads(read_bytes(file(out)) or b"")["host"] == "elsewhere"  # and leaves it alone


def test_one_that_has_expired_is_taken_over(out: str) -> None:
    other_host(out, time.time() + 60)
    with pytest.raises(InputError, match="process 1 on elsewhere"):
        Lease(out).acquire()
    other_host(out, time.time() - 1)
    with Lease(out):
        pass


class Server:
    """What a lease writes to, with faults."""

    def __init__(self, store: Any, *, forgetful: bool = False, careless: bool = False) -> None:
        self.store, self.forgetful, self.careless = store, forgetful, careless

    def read(self, key: str) -> Any:
        return self.store.read(key)

    def write(self, key: str, value: bytes | None, if_equal: bytes | None = None) -> Any:
        if self.careless:
            return self.store.write(key, value)
        if self.forgetful and value is not None:
            self.store.write(key, value, if_equal=if_equal).result()  # its answer is lost
        return self.store.write(key, value, if_equal=if_equal)


def test_an_answer_that_is_lost_loses_nothing(out: str) -> None:
    lease = Lease(out, renew_every=0.05)
    lease._store = Server(lease._store, forgetful=True)
    with lease:
        time.sleep(0.3)
        lease.check()
        with pytest.raises(InputError, match="is being written"):
            Lease(out).acquire()
    assert read_bytes(file(out)) is None


def test_a_server_that_honours_no_conditions_is_found_out(
    out: str, caplog: pytest.LogCaptureFixture
) -> None:
    lease = Lease(out)
    lease._store = Server(lease._store, careless=True)
    with caplog.at_level(logging.WARNING, "ddgm_dist"), lease:
        assert "does not honour conditional writes" in caplog.text
    assert read_bytes(file(out)) is None
