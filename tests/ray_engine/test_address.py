"""Whatever an address is from, it is looked at before Ray is asked; what is wrong names its source."""

import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
import ray

from ddgm_dist.errors import DdgmError, InputError
from ddgm_dist.ray_engine import folder as ray_folder
from ddgm_dist.ray_engine import private_api as ray_compat
from ddgm_dist.ray_engine import reachable as ray_reach
from ddgm_dist.ray_engine.address import endpoint, find_address
from ddgm_dist.ray_engine.cluster import connected
from ddgm_dist.ray_engine.parallel_map import open_scheduler
from tests.ray_cluster import free_ports


class AskedError(BaseException):
    """Ray was asked; what it raises is an Exception."""


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    """What Ray is asked: by then all must have been looked at."""
    calls = list[dict[str, Any]]()

    def init(**options: Any) -> None:
        calls.append(options)
        raise AskedError

    for name in list(os.environ):
        if name.startswith("RAY_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    return calls


@pytest.fixture
def dead() -> str:
    return f"127.0.0.1:{free_ports(1)[0]}"


def refused(address: str | None) -> InputError:
    with pytest.raises(InputError) as caught, connected(address):
        pass
    return caught.value


@pytest.mark.parametrize("given", [None, "auto"])
def test_a_stale_variable_is_refused_by_its_name(
    dead: str, given: str | None, asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", dead)
    error = refused(given)
    assert (error.argument, error.value) == ("RAY_ADDRESS", dead)
    assert "unset it" in error.hint
    assert asked == []


def test_an_option_goes_before_the_variable(dead: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "elsewhere:6379")
    error = refused(dead)
    assert (error.argument, error.value) == ("address", dead)


def test_every_entry_looks_at_the_variable(
    dead: str, asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ddgm_dist.ray_engine.engine import RayEngine

    monkeypatch.setenv("RAY_ADDRESS", dead)
    with pytest.raises(InputError, match="RAY_ADDRESS"), open_scheduler("ray"):
        pass
    with pytest.raises(InputError, match="RAY_ADDRESS"), RayEngine().connected():
        pass
    with pytest.raises(InputError, match="RAY_ADDRESS"):
        RayEngine().budget(None)
    assert asked == []


def test_the_file_of_a_cluster_that_has_ended_is_named(
    dead: str, tmp_path: Path, asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray._private import services

    # Whatever else runs on the machine of the test.
    monkeypatch.setattr(services, "find_gcs_addresses", frozenset[str])
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    file = tmp_path / "ray" / "ray_current_cluster"
    file.parent.mkdir()
    file.write_text(f"{dead}\n")
    error = refused("auto")
    assert (error.argument, error.value) == (str(file), dead)
    file.write_text("nonsense")
    assert refused("auto").argument == str(file)
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert refused(None).argument == str(file)
    assert asked == []
    file.unlink()
    with pytest.raises(AskedError), connected("auto"):  # Ray says at once that there is none
        pass
    monkeypatch.setattr(services, "find_gcs_addresses", lambda: frozenset([dead]))
    assert "among the processes" in refused("auto").hint


def test_local_is_a_start_of_our_own_with_a_token_of_its_own(
    asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for given, variable in ((None, ""), ("local", ""), (None, "local")):
        monkeypatch.setenv("RAY_ADDRESS", variable)
        with pytest.raises(AskedError), connected(given):
            pass
        assert asked.pop()["include_dashboard"] is False


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("10.0.0.1:6379", ("10.0.0.1", 6379)),
        ("head-1.cluster:1", ("head-1.cluster", 1)),
        ("[::1]:6379", ("::1", 6379)),
        ("[fd00::2]:65535", ("fd00::2", 65535)),
        ("ray://[::1]:10001", ("::1", 10001)),
        ("ray://head:10001", ("head", 10001)),
    ],
)
def test_hosts_and_ports(address: str, found: tuple[str, int]) -> None:
    assert endpoint(address) == found
    if "://" not in address:  # Ray reads the same
        from ray._common.network_utils import parse_address

        assert parse_address(address) == (found[0], str(found[1]))


@pytest.mark.parametrize(
    ("address", "word"),
    [
        ("::1:6379", "[::1]:6379"),
        ("fd00::2", "brackets"),
        ("[::1]", "no port"),
        ("head", "no port"),
        (":6379", "no host"),
        ("head:", "1..65535"),
        ("head:0", "1..65535"),
        ("head:65536", "1..65535"),
        ("head:six", "1..65535"),
        ("head:-1", "1..65535"),
        ("head :6379", "white space"),
        (" head:6379", "white space"),
        ("head:6379\n", "white space"),
        ("", "empty"),
        ("  ", "empty"),
        ("http://head:8265", "ddgm-dist submit"),
        ("tcp://head:6379", "unknown kind"),
        ("a..b:6379", "nothing answers"),
    ],
)
def test_what_is_no_address_is_told(
    address: str, word: str, asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert word in str(refused(address))
    if address.strip():
        monkeypatch.setenv("RAY_ADDRESS", address)
        assert word in str(refused(None))
        assert refused(None).argument == "RAY_ADDRESS"
    assert asked == []


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "")
    assert find_address(None) is None


def test_what_is_looked_at_is_where_ray_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray takes the machine's own address for loopback: a forwarded port there is no way to a head."""
    monkeypatch.setattr(ray_reach, "host_of", lambda host: "127.0.0.2")
    with socket.create_server(("127.0.0.1", 0)) as forwarded:
        port = forwarded.getsockname()[1]
        assert "at 127.0.0.2, where Ray looks instead of" in str(refused(f"127.0.0.1:{port}"))
    assert ray_compat.host_of("10.9.8.7") == "10.9.8.7"


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64", ""),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "no gRPC"),
        (b"", "no gRPC"),
        (None, "says nothing"),
    ],
    ids=["gRPC", "web", "broken off", "silent"],
)
def test_what_has_got_the_port_of_a_head_that_ended_is_told(
    answer: bytes | None, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_reach, "_PATIENCE", 0.3 if answer is None else 10.0)
    monkeypatch.setattr(ray_reach, "_SILENCE", 0.3 if answer is None else 10.0)
    monkeypatch.setattr(ray_reach, "host_of", lambda host: host)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"

        def serve() -> None:
            for _ in range(2):
                connection, _ = server.accept()
                with connection:
                    if connection.recv(3) == b"PRI" or answer == b"":
                        connection.sendall(answer or b"")

        thread = threading.Thread(target=serve)
        if answer is not None:
            thread.start()
        try:
            if word:
                assert word in str(refused(address))
            else:
                with pytest.raises(AskedError), connected(address):
                    pass
        finally:
            if answer is not None:
                thread.join()


# -- the folder of a start here --------------------------------------------------------------------


def test_names_of_sockets_fit_or_the_variable_is_told(
    asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_folder, "_check_writable", lambda *_: None)
    most = ray_folder.LONGEST - len(ray_folder._socket())
    for name in ("RAY_TMPDIR", "TMPDIR"):
        monkeypatch.delenv("RAY_TMPDIR", raising=False)
        for slash in ("", "/"):
            monkeypatch.setenv(name, "/" + "x" * (most - 1) + slash)
            with pytest.raises(AskedError), connected(None):
                pass
            monkeypatch.setenv(name, "/" + "x" * most + slash)
            error = refused(None)
            assert error.argument == name
            assert str(most) in error.why
            assert "RAY_TMPDIR=/tmp" in error.hint
    assert len(asked) == 4
    monkeypatch.setenv("TMPDIR", "/" + "é" * (most // 2 + 1))  # bytes count
    assert "bytes" in refused(None).why


def test_our_bound_is_rays_bound() -> None:
    """The longest name that passes here passes there, and one more byte does not."""
    from ray._private.utils import validate_socket_filepath

    room = ray_folder.LONGEST - len(ray_folder._socket())
    validate_socket_filepath("/" + "x" * (room - 1) + ray_folder._socket())
    with pytest.raises(OSError, match="107"):
        validate_socket_filepath("/" + "x" * room + ray_folder._socket())


def test_a_folder_that_cannot_be_used_is_told(
    asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(tempfile.mkdtemp(prefix="d", dir="/tmp"))  # tmp_path is too long
    file = folder / "file"
    file.touch()
    for value, word in (
        (str(file), "is not a folder"),
        (str(file / "below"), "is not a folder"),
        ("here", "not an absolute path"),
        ("", "not an absolute path"),
        ("/tmp/caf\udce9", "not UTF-8"),
    ):
        monkeypatch.setenv("RAY_TMPDIR", value)
        error = refused(None)
        assert error.argument == "RAY_TMPDIR"
        assert word in error.why, value
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "cannot be written" in refused(None).why
    monkeypatch.undo()
    shutil.rmtree(folder)
    assert asked == []


def test_a_start_that_fails_is_tried_again_and_reported_in_one_line(
    asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def init(**options: Any) -> None:
        asked.append(options)
        if len(asked) in fails:
            raise failure

    monkeypatch.setattr(ray, "init", init)
    fails, failure = {1, 2, 3}, Exception("The current node timed out\nduring startup")
    words = r"did not start .* timed out during .*/tmp/ray.*--engine local"
    with pytest.raises(DdgmError, match=words) as caught, connected(None):
        pass
    assert "\n" not in str(caught.value)
    assert len(asked) == 3
    assert ["trying again" in line for line in caplog.messages] == [True, True]
    asked.clear()
    fails.remove(3)
    with connected(None):
        assert len(asked) == 3
    # What does not change by itself is not tried again.
    asked.clear()
    failure = OSError(28, "No space left on device")
    assert refused(None).argument == "RAY_TMPDIR"
    assert len(asked) == 1


class Raylet:
    """As Ray's: asked whether it has registered, it has after so many questions."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, answers: int, ends: bool) -> None:
        from ray._private import services

        self.left, self.returncode = answers, 9 if ends else None
        self.process = self
        monkeypatch.setattr(services, "start_raylet", lambda: self)
        monkeypatch.setattr(services, "get_node", self.ask)
        monkeypatch.setattr(ray_compat.time, "sleep", lambda _: None)

    def poll(self) -> int | None:
        return self.returncode

    def ask(self) -> dict[str, str]:
        self.left -= 1
        if self.left > 0:
            raise RuntimeError("GCS cannot find the node")
        return {"node": "found"}

    def start(self, seconds: float) -> dict[str, str]:
        """Start as Ray does, which asks once and would give up after 30 s."""
        from ray._private import services

        with ray_compat.waiting_for_raylet(seconds):
            services.start_raylet()
            return services.get_node()


def test_a_raylet_that_is_slow_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Raylet(monkeypatch, answers=500, ends=False)
    assert slow.start(60) == {"node": "found"}
    assert slow.left == 0
    with pytest.raises(RuntimeError, match="cannot find"):
        Raylet(monkeypatch, answers=10**9, ends=False).start(0.2)


def test_a_raylet_that_has_ended_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = Raylet(monkeypatch, answers=10**9, ends=True)
    with pytest.raises(ray_compat.RayletDiedError, match="status 9"):
        ended.start(60)
    assert ended.left == 10**9 - 1


def test_the_processes_of_a_failed_start_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []

    class Node:
        def kill_all_processes(self, **options: bool) -> None:
            ended.append(self)

        def start(self) -> None:
            raise RuntimeError

    Node.__module__ = "ray._private.node"
    node = Node()
    with pytest.raises(RuntimeError), ray_compat.waiting_for_raylet(60):
        node.start()
    assert ended == [node]


@pytest.mark.parametrize("given", [None, "auto"])
def test_a_signal_during_the_start_is_for_the_handler_that_was_there(
    given: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # A cluster that was killed here may have left its address in the usual folder.
    if given == "auto":
        monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))

    def init(**options: Any) -> None:
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))  # as Ray does
        os.kill(os.getpid(), signal.SIGTERM)

    def handler(number: int, frame: Any) -> None:
        raise AskedError

    from ray._private import services

    monkeypatch.setattr(services, "find_gcs_addresses", frozenset[str])
    monkeypatch.setattr(ray, "init", init)
    before = signal.signal(signal.SIGTERM, handler)
    try:
        with pytest.raises(AskedError), connected(given):
            pass
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_joining_does_not_look_at_the_folder(monkeypatch: pytest.MonkeyPatch, dead: str) -> None:
    monkeypatch.setenv("TMPDIR", "/" + "x" * 200)
    assert refused(dead).argument == "address"
