"""Jobs of a real cluster, closed by a token: what is sent, followed, left, stopped and refused."""

import importlib
import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import ddgm_dist as dd
from ddgm_dist.cli import main
from ddgm_dist.errors import InputError
from ddgm_dist.records.run_record import RunRecord
from ddgm_dist.simulation.phantom import TissuePhantom
from tests.ray_cluster import Cluster, free_ports, head

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:ssl=None:DeprecationWarning"),  # of Ray's client
]

# On the cluster's PYTHONPATH. Another ddgm_dist lies there as well, as in an image that is old.
DENOISER = '''
import time
from pathlib import Path

HERE = Path(__file__).parent


def patient(x, sigma):
    """Does nothing, and waits for as long as somebody says so."""
    (HERE / "reached").touch()
    while (HERE / "pause").exists():
        time.sleep(0.05)
    return x
'''


@pytest.fixture(autouse=True)
def handlers_of_former_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's loggers keep the standard error that an earlier test had, which is closed by now."""
    monkeypatch.setattr(logging, "raiseExceptions", False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """First on the cluster's PYTHONPATH."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "bystander.py").write_text(DENOISER)
    return folder


@pytest.fixture(scope="module")
def cluster(site: Path) -> Iterator[Cluster]:
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    with head({"PYTHONPATH": path}) as found:
        yield found


@pytest.fixture(autouse=True)
def token(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a user sets, and what must not get in the way."""
    (tmp_path / "token").write_text(cluster.token + "\n")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture(scope="module")
def tilts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tilts") / "tilts.zarr"
    dd.simulate(TissuePhantom((12, 4, 96), seed=0), path, noise="gaussian:0.05", field=64)
    return path


def words(cluster: Cluster, *more: object) -> list[str]:
    return ["submit", *map(str, more), "--address", cluster.dashboard]


SMALL = ("--set", "N=2", "--set", "K=5", "--workers", 1)
PATIENT = (*SMALL, "--set", "denoiser=bystander:patient")


def jobs(cluster: Cluster) -> dict[str, str]:
    """Status by name, of our jobs."""
    found = json.loads(cluster.ask("/api/jobs/"))
    return {job["submission_id"]: job["status"] for job in found if job["submission_id"]}


def wait_for(what: Callable[[], Any]) -> None:
    end = time.monotonic() + 600
    while not what():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.fixture
def old_image(site: Path) -> Iterator[None]:
    """The cluster has another version of this package."""
    package, about = site / "ddgm_dist", site / "ddgm_dist-0.0.9.dist-info"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "cli.py").write_text("def main():\n    print('ddgm-dist 0.0.9')\n")
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: ddgm-dist\nVersion: 0.0.9\n")
    yield
    for folder in (package, about):
        shutil.rmtree(folder)


@pytest.mark.usefixtures("old_image")
def test_what_is_sent_along_is_what_runs(
    cluster: Cluster, tilts: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Though the cluster has another: the package, the configuration and the weights come from here."""
    from ddgm_dist.prior.weights import shipped_weights

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        Path("nets").mkdir()
        source = shipped_weights()
        for file in source.parent.glob(f"{source.stem}*"):
            Path("nets", file.name).write_bytes(file.read_bytes())
        name = f"nets/{source.name}"
        status = main(
            words(cluster, tilts, tmp_path / "out.zarr", *SMALL, "--set", f"denoiser={name}")
        )
    shown = capfd.readouterr()
    assert status == 0, shown
    assert re.search(r"\d %  sigma .*, residual .*voxel/s", shown.out)  # progress
    assert "wall time" in shown.out
    assert dd.status(tmp_path / "out.zarr").state == "complete"
    made = RunRecord(tmp_path / "out.zarr").read_json("provenance")
    assert made["versions"]["ddgm-dist"] == dd.__version__
    assert (made["config"]["N"], made["config"]["denoiser"]) == (2, name)
    assert cluster.token not in shown.out + shown.err


def test_the_jobs_exit_status_is_ours(
    cluster: Cluster, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    status = main(words(cluster, tmp_path / "nothing.zarr", tmp_path / "out.zarr"))
    shown = capfd.readouterr()
    assert status == 2
    assert "nothing.zarr" in shown.out
    assert "failed with exit status 2" in shown.err
    assert "nothing.zarr" not in shown.err  # the log is shown once


def test_ctrl_c_detaches_and_the_job_can_be_followed_again(
    cluster: Cluster, site: Path, tilts: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (site / "pause").touch()
    call = [
        sys.executable,
        "-m",
        "ddgm_dist",
        *words(cluster, tilts, tmp_path / "o.zarr", *PATIENT),
    ]
    process = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        wait_for((site / "reached").exists)
        process.send_signal(signal.SIGINT)
        told, _ = process.communicate(timeout=300)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, told
    job = re.search(r"--attach (ddgm-\w+)", told)
    assert job, told
    assert f"--cancel {job[1]}" in told
    assert jobs(cluster)[job[1]] == "RUNNING"
    (site / "pause").unlink()
    assert main(words(cluster, "--attach", job[1])) == 0
    assert "wall time" in capfd.readouterr().out
    assert dd.status(tmp_path / "o.zarr").state == "complete"


def test_a_cancelled_job_has_stopped_and_its_output_can_be_gone_on_with(
    cluster: Cluster, site: Path, tilts: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (site / "pause").touch()
    (site / "reached").unlink(missing_ok=True)
    asked = (tilts, tmp_path / "o.zarr", *PATIENT)
    assert main(words(cluster, *asked, "--detach")) == 0
    job = capfd.readouterr().out.strip()
    wait_for((site / "reached").exists)
    assert main(words(cluster, "--cancel", job)) == 0
    assert f"{job}: stopped" in capfd.readouterr().err
    assert jobs(cluster)[job] == "STOPPED"
    (site / "pause").unlink()
    assert main(words(cluster, "--attach", job)) == 143
    assert dd.status(tmp_path / "o.zarr").state != "complete"
    assert main(words(cluster, *asked)) == 0
    assert dd.status(tmp_path / "o.zarr").state == "complete"


@pytest.mark.usefixtures("old_image")
def test_another_version_in_the_image_is_told_before_the_run_is_submitted(
    cluster: Cluster, tilts: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = jobs(cluster)
    assert main(words(cluster, tilts, tmp_path / "o.zarr", *SMALL, "--installed")) == 2
    told = capfd.readouterr().err
    assert f"ddgm-dist 0.0.9 there, {dd.__version__} here" in told
    assert "without --installed" in told
    assert jobs(cluster) == before
    assert not (tmp_path / "o.zarr").exists()


def test_what_the_image_has_is_used_when_asked_to(
    cluster: Cluster, tilts: Path, tmp_path: Path
) -> None:
    assert main(words(cluster, tilts, tmp_path / "o.zarr", *SMALL, "--installed")) == 0
    assert dd.status(tmp_path / "o.zarr").state == "complete"


def test_another_ray_or_python_is_told_before_anything_is_submitted(
    cluster: Cluster,
    tilts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    here = importlib.import_module("ddgm_dist.remote.submit")
    ours = here.own_versions()
    monkeypatch.setattr(here, "own_versions", lambda: {**ours, "ray": "2.49.0", "python": "3.10.1"})
    before = jobs(cluster)
    asked = words(cluster, tilts, tmp_path / "o.zarr", *SMALL, "--detach")
    assert main(asked) == 2
    told = capfd.readouterr().err
    assert f"ray {ours['ray']} there, 2.49.0 here" in told
    assert f"python {ours['python']} there, 3.10.1 here" in told
    assert jobs(cluster) == before
    assert main([*asked, "--ignore-version-mismatch"]) == 0
    job = capfd.readouterr().out.strip()
    assert main(words(cluster, "--attach", job)) == 0


@pytest.mark.parametrize(
    ("environment", "why"),
    [
        ({"RAY_AUTH_MODE": "disabled"}, "it asks for a token"),
        ({"RAY_AUTH_TOKEN": "0" * 64}, "it refuses the token"),
        ({"RAY_AUTH_TOKEN_PATH": "/nowhere/token"}, "the token cannot be read"),
    ],
)
def test_without_the_token_nothing_is_submitted(
    cluster: Cluster,
    tilts: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    environment: dict[str, str],
    why: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    before = jobs(cluster)
    assert main(words(cluster, tilts, "/tmp/o.zarr")) == 2
    told = capfd.readouterr().err
    assert why in told
    assert "RAY_AUTH" in told
    assert "0" * 64 not in told
    assert jobs(cluster) == before


def test_an_unknown_job_is_told(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    for option in ("--attach", "--cancel"):
        assert main(words(cluster, option, "ddgm-none")) == 2
        assert "knows no such job" in capfd.readouterr().err


def test_a_gateways_headers_go_along_and_the_token_finds_its_place(cluster: Cluster) -> None:
    from ddgm_dist.remote.job_server import JobServer

    server = JobServer(cluster.dashboard, headers={"X-Gateway": "open"})
    assert server.versions["ray"]
    # Ray looks at Authorization first: one that is a gateway's is not for the dashboard.
    with pytest.raises(InputError, match="refuses the token"):
        JobServer(cluster.dashboard, headers={"Authorization": "Basic eDp5"})


class Handler(BaseHTTPRequestHandler):
    """Says what the test wants it to."""

    code, headers_out, seen = 200, dict[str, str](), list[dict[str, str]]()

    def do_GET(self) -> None:
        self.seen.append({k.lower(): v for k, v in self.headers.items()})
        self.send_response(self.code)
        for name, value in self.headers_out.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"<html>Welcome</html>")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[str]:
    """Some web server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_addresses_that_are_none_of_a_dashboard_are_refused(
    web: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ddgm_dist.remote import dashboard_api
    from ddgm_dist.remote import job_server as ray_jobs

    def refused(address: str) -> str:
        with pytest.raises(InputError) as caught:
            ray_jobs.JobServer(address)
        assert caught.value.argument == "address"
        assert caught.value.hint
        return str(caught.value)

    for address in ("10.0.0.1:6379", "ray://10.0.0.1:10001", "auto", "http://", "s3://bucket"):
        assert "is not the URL of a dashboard" in refused(address)
    assert "secret" not in refused("http://user:secret@127.0.0.1:8265")
    assert "no dashboard answers" in refused(f"http://127.0.0.1:{free_ports(1)[0]}")
    assert "is no dashboard of Ray" in refused(web)
    monkeypatch.setattr(Handler, "code", 302)
    monkeypatch.setattr(Handler, "headers_out", {"Location": "https://login.example"})
    assert "https://login.example" in refused(web)
    monkeypatch.setattr(dashboard_api, "_ANSWER_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes a connection, and says nothing
        assert "within 0.3 s" in refused(f"http://127.0.0.1:{silent.getsockname()[1]}")


def test_beside_a_gateways_authorization_the_token_has_another_name(
    web: str, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ddgm_dist.remote.job_server import JobServer

    monkeypatch.setattr(Handler, "seen", [])
    with pytest.raises(InputError):
        JobServer(web, headers={"authorization": "Basic eDp5"})
    (seen,) = Handler.seen
    assert seen["authorization"] == "Basic eDp5"
    assert seen["x-ray-authorization"] == f"Bearer {cluster.token}"


SETS = ["--set", "start=restored", "--set", "restorer=w.safetensors"]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (["a.zarr", "/o.zarr"], "tilts = a.zarr: is relative"),
        (["/a.zarr", "o.zarr"], "out = o.zarr: is relative"),
        (["/a.zarr", "/o.zarr", "--set", "denoiser=../w.pt"], "leads out of this folder"),
        (["/a.zarr", "/o.zarr", "--set", "denoiser=w.pt"], "no such file here"),
        (
            ["/a.zarr", "/o.zarr", *SETS],
            "restorer = w.safetensors: no such file here",
        ),
        (["/a.zarr", "/o.zarr", "--set", "NN=3"], "is not a configuration key"),
        (["/a.zarr"], "are missing"),
        (["/a.zarr", "/o.zarr", "--attach", "j"], "leave out TILTS.zarr"),
        (["--attach", "j", "--cancel", "j"], "cannot be combined with --attach"),
        (["/a.zarr", "/o.zarr", "--header", "x"], "is not NAME:VALUE"),
    ],
)
def test_what_cannot_be_submitted_is_told(
    cluster: Cluster,
    capfd: pytest.CaptureFixture[str],
    asked: list[str],
    told: str,
) -> None:
    before = jobs(cluster)
    assert main(words(cluster, *asked)) == 2
    assert told in capfd.readouterr().err
    assert jobs(cluster) == before


def test_a_folder_that_is_too_large_is_not_sent(
    cluster: Cluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from ddgm_dist.remote.submit import LARGEST

    monkeypatch.chdir(tmp_path)
    with Path("w.pt").open("wb") as file:
        file.truncate(LARGEST)  # a hole
    assert main(words(cluster, "/a.zarr", "/o.zarr", "--set", "denoiser=w.pt")) == 2
    assert "may hold 95 MiB" in capfd.readouterr().err


def test_a_password_of_netrc_is_not_shown_in_place_of_the_token(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ddgm_dist.remote.job_server import JobServer

    (tmp_path / ".netrc").write_text("default login bob password secret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", cluster.token)
    server = JobServer(cluster.dashboard)
    with pytest.raises(InputError, match="knows no such job"):
        server.outcome("ddgm-none")
