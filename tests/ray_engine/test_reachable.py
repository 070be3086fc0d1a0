"""Addresses are told to be wrong in seconds; what is right is let through."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ddgm_dist.errors import InputError
from ddgm_dist.ray_engine.reachable import check_reachable
from tests.ray_cluster import Cluster, free_ports, head

pytestmark = pytest.mark.cluster
CERTIFICATES = Path(__file__).parents[2] / "deploy" / "tls" / "certificates.sh"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with head() as found:
        yield found


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_USE_TLS", raising=False)


def test_a_cluster_is_let_through_and_its_dashboard_is_not(cluster: Cluster) -> None:
    check_reachable(cluster.gcs)
    port = cluster.dashboard.rpartition(":")[2]
    with pytest.raises(InputError, match="no gRPC"):
        check_reachable(f"ray://127.0.0.1:{port}")


def test_encryption_here_and_not_there_is_told(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run([str(CERTIFICATES), str(tmp_path), "driver", "127.0.0.1"], check=True)
    monkeypatch.setenv("RAY_USE_TLS", "1")
    monkeypatch.setenv("RAY_TLS_CA_CERT", str(tmp_path / "ca.crt"))
    monkeypatch.setenv("RAY_TLS_SERVER_CERT", str(tmp_path / "driver.crt"))
    monkeypatch.setenv("RAY_TLS_SERVER_KEY", str(tmp_path / "driver.key"))
    with pytest.raises(InputError, match="it does not encrypt"):
        check_reachable(cluster.gcs)
    (tmp_path / "driver.key").write_text("nonsense")
    with pytest.raises(InputError, match="cannot be used"):
        check_reachable(cluster.gcs)


def test_where_nobody_listens() -> None:
    with pytest.raises(InputError, match="nothing answers there"):
        check_reachable(f"ray://127.0.0.1:{free_ports(1)[0]}")


def test_a_dashboard_is_no_place_to_connect_to() -> None:
    with pytest.raises(InputError, match="dashboard") as told:
        check_reachable("http://127.0.0.1:8265")
    assert "submit" in told.value.hint
