"""The recipe of docs/security.md: Ray's connections encrypted, and closed to who has no certificate."""

import os
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ddgm_dist as dd
from ddgm_dist.simulation.phantom import TissuePhantom
from tests.ray_cluster import Cluster, head

MAKE = Path(__file__).parents[2] / "deploy" / "tls" / "certificates.sh"

pytestmark = pytest.mark.cluster


def make(folder: Path, name: str) -> dict[str, str]:
    """Variables of a process with a certificate for this machine."""
    hosts = {socket.gethostname(), "localhost", "127.0.0.1", own_address()}
    done = subprocess.run(
        [str(MAKE), str(folder), name, *sorted(hosts)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return {
        "RAY_USE_TLS": "1",
        "RAY_TLS_SERVER_CERT": f"{folder}/{name}.crt",
        "RAY_TLS_SERVER_KEY": f"{folder}/{name}.key",
        "RAY_TLS_CA_CERT": f"{folder}/ca.crt",
    }


def own_address() -> str:
    """The address that Ray takes instead of loopback: that of the default route."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # of a block for documentation; nothing is sent
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def cluster(certificates: Path) -> Iterator[Cluster]:
    path = {k: os.environ[k] for k in ("PYTHONPATH",) if k in os.environ}
    with head({**make(certificates, "node"), **path}) as found:
        yield found


def reconstruct(cluster: Cluster, folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    volume = TissuePhantom((12, 4, 96), seed=0)
    if not (folder / "tilts.zarr").exists():
        dd.simulate(volume, folder / "tilts.zarr", noise="gaussian:0.05", field=64)
    words = ["reconstruct", "tilts.zarr", "out.zarr", "--set=N=2", "--set=K=5", "--workers=1"]
    done = subprocess.run(
        [sys.executable, "-m", "ddgm_dist", *words, "--address", cluster.gcs],
        env=environment, cwd=folder, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_keys_can_be_read_by_their_owner_alone(cluster: Cluster, certificates: Path) -> None:
    for name in ("ca.key", "node.key"):
        assert (certificates / name).stat().st_mode & 0o077 == 0


def test_the_port_speaks_tls_and_the_nodes_certificate_is_of_the_authority(
    cluster: Cluster, certificates: Path
) -> None:
    context = ssl.create_default_context(cafile=str(certificates / "ca.crt"))
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(certificates / "node.crt", certificates / "node.key")
    host, _, port = cluster.gcs.rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=host) as secret,
    ):
        assert secret.version() in ("TLSv1.2", "TLSv1.3")


def test_a_run_goes_through_with_a_certificate_of_the_same_authority(
    cluster: Cluster, certificates: Path, tmp_path: Path
) -> None:
    status, told = reconstruct(
        cluster, tmp_path, {**cluster.environment, **make(certificates, "driver")}
    )
    assert status == 0, told
    assert dd.status(tmp_path / "out.zarr").state == "complete"


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ("plain", "its connections are encrypted, and there is no certificate here"),
        ("another authority", "its certificate is not accepted here"),
        ("no key", "cannot be used"),
    ],
)
def test_the_token_alone_does_not_open_it(
    cluster: Cluster, tmp_path: Path, other: str, why: str
) -> None:
    environment = {k: v for k, v in cluster.environment.items() if "TLS" not in k}
    if other != "plain":
        environment |= make(tmp_path / "other", "driver")
    if other == "no key":
        environment["RAY_TLS_SERVER_KEY"] = "/nowhere.key"
    status, told = reconstruct(cluster, tmp_path, environment)
    assert status == 2, told
    assert why in told
    assert not (tmp_path / "out.zarr").exists()
