"""Where jobs are handed in: whatever names it, it is looked at first, and what is wrong is named."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from ddgm_dist.cli.entry import main
from ddgm_dist.errors import InputError
from ddgm_dist.ray_engine.dashboard import environment_for_requests, find_dashboard
from ddgm_dist.remote.job_server import JobServer
from tests.ray_cluster import free_ports


class Dashboard(BaseHTTPRequestHandler):
    """The few answers that a dashboard of Ray gives to whoever connects."""

    def do_GET(self) -> None:
        found = {"version": "4", "ray_version": "2.60.0", "ray_commit": "", "session_name": "s"}
        answer = json.dumps(found if self.path == "/api/version" else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


class Server6(ThreadingHTTPServer):
    address_family = socket.AF_INET6


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("RAY_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


def serving(server: ThreadingHTTPServer) -> Iterator[ThreadingHTTPServer]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def dashboard() -> Iterator[str]:
    for server in serving(ThreadingHTTPServer(("127.0.0.1", 0), Dashboard)):
        yield f"http://127.0.0.1:{server.server_address[1]}"


@pytest.fixture
def dashboard6() -> Iterator[str]:
    try:
        made = Server6(("::1", 0), Dashboard)
    except OSError:
        pytest.skip("this machine has no IPv6")
    for server in serving(made):
        yield f"http://[::1]:{server.server_address[1]}"


def refused(address: str | None) -> InputError:
    with pytest.raises(InputError) as caught:
        JobServer(address)
    return caught.value


def test_what_names_the_dashboard_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    dead = f"http://127.0.0.1:{free_ports(1)[0]}"
    assert refused(dead).argument == "address"
    monkeypatch.setenv("RAY_ADDRESS", dead)
    assert refused(None).argument == "RAY_ADDRESS"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", dead)
    assert refused(None).argument == "RAY_API_SERVER_ADDRESS"
    assert refused(dead).argument == "address"


def test_a_heads_address_is_none_of_a_dashboard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert find_dashboard(None) == ("http://127.0.0.1:8265", "address")


def test_the_command_line_tells_the_variable(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    dead = f"http://127.0.0.1:{free_ports(1)[0]}"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", dead)
    assert main(["submit", "/a.zarr", "/b.zarr"]) == 2
    assert f"RAY_API_SERVER_ADDRESS = {dead}: no dashboard" in capfd.readouterr().err


def test_ipv6(dashboard6: str) -> None:
    assert JobServer(dashboard6).versions == {"ray": "2.60.0"}
    assert JobServer(dashboard6 + "/").address == dashboard6


@pytest.mark.parametrize(
    ("address", "word"),
    [
        ("http://::1:8265", "http://[::1]:8265"),
        ("http://[::1:8265", "bracket"),
        ("http://127.0.0.1:99999", "1..65535"),
        ("http://127.0.0.1:0", "1..65535"),
        ("http://127.0.0.1:port", "1..65535"),
        (" http://127.0.0.1:8265", "white space"),
        ("http://127.0.0.1:8265\n", "white space"),
        ("http://:8265", "no host"),
        ("", "not the URL"),
    ],
)
def test_what_is_no_url_is_told(address: str, word: str) -> None:
    assert word in str(refused(address))


def test_loopback_is_reached_past_a_proxy(dashboard: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_ports(1)[0]}")
    monkeypatch.setenv("NO_PROXY", "example.org")
    before = dict(os.environ)
    assert JobServer(dashboard).versions == {"ray": "2.60.0"}
    with environment_for_requests():
        assert os.environ["no_proxy"].split(",")[0] == "example.org"
    assert dict(os.environ) == before


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy"])
def test_a_proxy_that_is_not_there_is_named_with_the_way_around_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, f"http://user:secret@127.0.0.1:{free_ports(1)[0]}")
    told = str(refused("http://head.invalid:8265"))
    assert name in told
    assert "no_proxy=head.invalid" in told
    assert "secret" not in told


def test_a_proxy_that_answers_itself_is_named_too(
    dashboard: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Dashboard, "do_GET", lambda self: self.send_error(503))
    monkeypatch.setenv("http_proxy", dashboard)
    told = str(refused("http://head.invalid:8265"))
    assert "HTTP 503" in told
    assert "http_proxy" in told
    assert "no_proxy=head.invalid" in told


@pytest.mark.parametrize("address", ["http://head:8265", None])
def test_submit_takes_an_address(address: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    from ddgm_dist.remote import submit as remote

    class Server:
        versions: ClassVar[dict[str, str]] = {}

        def __init__(self, given: str | None) -> None:
            asked.append(given)

        def submit(self, job: str, entrypoint: str, folder: Path | None) -> None:
            assert folder is not None
            asked.append(entrypoint)
            # The whole package, which `python -m ddgm_dist` needs.
            sent.extend(sorted(path.name for path in (folder / "ddgm_dist").iterdir()))

    asked, sent = list[str | None](), list[str]()
    monkeypatch.setattr(remote, "JobServer", Server)
    job = remote.submit(address, "/t.zarr", "/o.zarr", workers=2, verify_input=True)
    assert job.startswith("ddgm-")
    assert asked == [
        address,
        "python -m ddgm_dist reconstruct /t.zarr /o.zarr --config run.yaml --address auto "
        "--workers 2 --verify-input",
    ]
    assert {"__main__.py", "cli", "runs", "ray_engine"} <= set(sent)
