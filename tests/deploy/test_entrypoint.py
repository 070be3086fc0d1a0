"""A committed RayJob's own command, run to its end by processes that are started as its pods would be.

Each pod is a host with its own address (a network namespace) and its own disks (a mount namespace).
The commands, variables, users, mounts and limits are read out of the manifest. The image is replaced
by this environment; the test makes the token, as the operator would.
"""

import json
import os
import secrets
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import ddgm_dist as dd
from ddgm_dist.core.box import Box
from ddgm_dist.deploy.lint.reading import number_of
from ddgm_dist.simulation.phantom import TissuePhantom
from tests.chaos.network import Network, UnavailableError, network
from tests.deploy.operator_start import (
    OPEN_FILES,
    environment,
    head_start_command,
    worker_start_command,
)

MANIFEST = Path(__file__).parents[2] / "deploy/kubernetes/overlays/cpu-local/rayjob.yaml"
HEAD, SUBMITTER = 0, 1  # hosts; workers follow
PATIENCE = 300.0

pytestmark = pytest.mark.cluster

# What a container's runtime does: mounts, a root that cannot be written, limits, the user.
POD = """
set -e
shm=$1 cpu=$2 files=$3 uid=$4 gid=$5; shift 5
while [ "$1" != -- ]; do mount --bind "$1" "$2"; shift 2; done; shift
mount -t tmpfs -o "size=$shm,mode=1777" tmpfs /dev/shm
mount -o remount,ro,bind /
ulimit -n "$files" 2> /dev/null || true  # the operator's command goes on without it, too
# One capability is left: users can read their image, and this environment may lie in a folder of root's.
look=-all,+dac_read_search
exec taskset -c "$cpu" setpriv --reuid "$uid" --regid "$gid" --clear-groups --no-new-privs \\
    --inh-caps="$look" --ambient-caps="$look" --bounding-set="$look" "$@"
"""


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    return yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Pods:
    """Hosts, and what their containers see."""

    net: Network
    manifest: dict[str, Any]
    folder: Path
    token: str

    def spec(self, host: int) -> dict[str, Any]:
        """Of the pod on a host."""
        job = self.manifest["spec"]
        if host == SUBMITTER:
            return job["submitterPodTemplate"]["spec"]
        cluster = job["rayClusterSpec"]
        group = cluster["headGroupSpec"] if host == HEAD else cluster["workerGroupSpecs"][0]
        return group["template"]["spec"]

    def command(self, host: int, *words: str) -> list[str]:
        """The command that runs a command in a pod."""
        spec = self.spec(host)
        (container,) = spec["containers"]
        limits, user = container["resources"]["limits"], spec["securityContext"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        size = int(number_of(limits["memory"]) or 0)
        mounts: list[str] = []
        # The shortest first: /tmp/ray lies in /tmp.
        for mount in sorted(container["volumeMounts"], key=lambda m: m["mountPath"]):
            path = mount["mountPath"]
            mounts += [str(self.volume(host, mount["name"], path)), path]
        cpu = str(sorted(os.sched_getaffinity(0))[host % len(os.sched_getaffinity(0))])
        ids = [str(user["runAsUser"]), str(user["runAsGroup"])]
        inside = ["unshare", "--mount", "--propagation", "private", "bash", "-c", POD, "pod"]
        inside += [str(size), cpu, str(OPEN_FILES), *ids, *mounts, "--", *words]
        return self.net.inside(host, *inside)

    def volume(self, host: int, name: str, path: str) -> Path:
        """What is mounted: the claim is all pods', an emptyDir is the pod's own."""
        if name.startswith("data-"):
            return self.folder / "data"
        if path == "/tmp":
            return Path("/tmp")  # where this environment may lie; of the pod's own, /tmp/ray
        own = self.folder / f"{name}-{host}"
        own.mkdir(exist_ok=True)
        own.chmod(0o777)
        return own

    def environment(self, host: int, *, token: str | None = None) -> dict[str, str]:
        """The image's, the manifest's, and what the operator adds."""
        image = {key: os.environ[key] for key in ("PYTHONPATH", "LANG") if key in os.environ}
        image["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        given = environment(self.manifest, group=None if host in (HEAD, SUBMITTER) else 0)
        address = "127.0.0.1" if host == HEAD else self.net.address(HEAD)
        added = {} if host == SUBMITTER else {"RAY_ADDRESS": f"{address}:6379"}
        return {**image, **given, **added, "RAY_AUTH_TOKEN": self.token if token is None else token}

    def start(self, host: int, words: tuple[str, ...]) -> subprocess.Popen[bytes]:
        with (self.folder / f"log-{host}").open("wb") as log:
            return subprocess.Popen(
                self.command(host, *words),
                env=self.environment(host), cwd="/", stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def submitter(self, *words: str, **changed: str) -> subprocess.CompletedProcess[str]:
        """A command in the submitter's pod."""
        inside = {**self.environment(SUBMITTER), **changed}
        return subprocess.run(
            self.command(SUBMITTER, *words),
            env=inside, cwd="/", capture_output=True, text=True, check=False, timeout=PATIENCE,
        )  # fmt: skip

    @property
    def dashboard(self) -> str:
        return f"http://{self.net.address(HEAD)}:8265"


@pytest.fixture(scope="module")
def pods(manifest: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pods]:
    """The cluster of the manifest, up: a head that computes nothing, and its workers."""
    if os.geteuid() != 0:
        pytest.skip("needs root, for hosts and mounts of their own")
    folder = tmp_path_factory.mktemp("pods")
    for above in (folder, *folder.parents[:3]):
        above.chmod(above.stat().st_mode | 0o055)  # the pods' user is not ours
    workers = manifest["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["replicas"]
    made: list[Path] = []
    started: list[subprocess.Popen[bytes]] = []
    try:
        for place in map(Path, ("/data", "/spill", "/tmp/ray")):  # to mount upon
            if not place.exists():
                place.mkdir()
                made.append(place)
        with network(2 + workers) as net:
            found = Pods(net, manifest, folder, secrets.token_hex(32))
            _make_data(found)
            try:
                again = "import subprocess as s, sys; s.run([sys.executable, '-V'], check=True)"
                can = found.submitter("python", "-c", again)
            except UnavailableError as error:
                pytest.skip(str(error))
            if can.returncode != 0:
                pytest.skip(f"the pods' user cannot run this environment: {can.stderr[-300:]}")
            started.append(found.start(HEAD, head_start_command(manifest)))
            _wait_for_dashboard(found, started[0])
            address = f"{net.address(HEAD)}:6379"
            words = worker_start_command(manifest, address)
            started += [found.start(host, words) for host in range(2, 2 + workers)]
            _wait_for_workers(found, workers)
            yield found
            assert [process.poll() for process in started] == [None] * len(started)
    except UnavailableError as error:
        pytest.skip(str(error))
    finally:
        for process in started:  # ended with their network
            process.wait(timeout=PATIENCE)
        for place in made:
            place.rmdir()


def _make_data(pods: Pods) -> None:
    data = pods.folder / "data"
    data.mkdir()
    volume = TissuePhantom((12, 8, 96), seed=0)
    dd.simulate(volume, data / "tilts.zarr", noise="gaussian:0.05", field=64)
    user = pods.spec(HEAD)["securityContext"]
    for path in (data, *data.rglob("*")):  # fsGroup
        shutil.chown(path, user["runAsUser"], user["fsGroup"])


def _nodes(pods: Pods) -> list[dict[str, Any]]:
    """Nodes that are alive, as the dashboard tells who has the token."""
    asks = (
        "import json, os, sys, urllib.request as u; "
        "shown = {'Authorization': 'Bearer ' + os.environ['RAY_AUTH_TOKEN']}; "
        "r = u.Request(sys.argv[1], headers=shown); "
        "print(u.urlopen(r, timeout=60).read().decode())"
    )
    done = pods.submitter("python", "-c", asks, f"{pods.dashboard}/api/v0/nodes?detail=1")
    if done.returncode != 0:
        return []
    found = json.loads(done.stdout)["data"]["result"]["result"]
    return [node for node in found if node["state"] == "ALIVE"]


def _wait_for_dashboard(pods: Pods, head: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + PATIENCE
    while not _nodes(pods):
        log = (pods.folder / "log-0").read_text(errors="replace")
        assert head.poll() is None, log
        assert time.monotonic() < end, log
        time.sleep(1)


def _wait_for_workers(pods: Pods, workers: int) -> None:
    end = time.monotonic() + PATIENCE
    while len(_nodes(pods)) < 1 + workers:
        logs = [(pods.folder / f"log-{2 + i}").read_text(errors="replace") for i in range(workers)]
        assert time.monotonic() < end, logs
        time.sleep(1)


def job(pods: Pods, what: str, *words: str, **changed: str) -> subprocess.CompletedProcess[str]:
    """``ray job``, as the operator has the submitter's pod do it."""
    return pods.submitter("ray", "job", what, "--address", pods.dashboard, *words, **changed)


def entrypoint(manifest: Mapping[str, Any]) -> list[str]:
    return shlex.split(manifest["spec"]["entrypoint"])


def test_the_head_offers_nothing_to_workers_and_they_what_the_plan_counted(pods: Pods) -> None:
    found = sorted(
        (node["resources_total"].get("CPU", 0), node["resources_total"].get("memory", 0))
        for node in _nodes(pods)
    )
    assert [cpus for cpus, _ in found] == [0, 1, 1]
    assert [memory for _, memory in found[1:]] == [2**29, 2**29]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": ""}, "Missing authentication token"),
        ({"RAY_AUTH_TOKEN": "0" * 64}, "Invalid authentication token"),
    ],
)
def test_without_the_token_nothing_is_run_or_seen(
    pods: Pods, manifest: dict[str, Any], changed: dict[str, str], told: str
) -> None:
    for what, words in (("submit", ["--", *entrypoint(manifest)]), ("list", [])):
        done = job(pods, what, *words, **changed)
        assert done.returncode != 0
        assert told in done.stdout + done.stderr
    assert "submission_id" not in job(pods, "list").stdout
    assert not (pods.folder / "data" / "volume.zarr").exists()


def test_the_entrypoint_runs_to_its_end(pods: Pods, manifest: dict[str, Any]) -> None:
    name = "ddgm-test"
    handed = job(pods, "submit", "--no-wait", "--submission-id", name, "--", *entrypoint(manifest))
    assert handed.returncode == 0, handed.stdout + handed.stderr
    logs = job(pods, "logs", "--follow", name)
    status = job(pods, "status", name)
    assert "succeeded" in status.stdout + status.stderr, logs.stdout + logs.stderr
    data = pods.folder / "data"
    assert dd.status(data / "volume.zarr").state == "complete"
    dd.reconstruct(data / "tilts.zarr", pods.folder / "here.zarr", engine="local")
    volume, here = dd.open_result(data / "volume.zarr"), dd.open_result(pods.folder / "here.zarr")
    whole = Box((0, 0, 0), volume.shape)
    np.testing.assert_array_equal(volume.read(whole), here.read(whole))
    # Nothing is left where it must not be.
    for host in range(2 + 2):
        spilled = pods.volume(host, "spill", "/spill")
        assert not [path for path in spilled.rglob("*") if path.is_file()]
    assert pods.token not in logs.stdout + logs.stderr + handed.stdout + handed.stderr
