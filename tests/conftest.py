"""What every test shares: where the measured data lie, and a quiet, bounded environment."""

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.ray_cluster import PATIENT_START

# Before torch and ray are first imported, which the plugins do; processes that tests start inherit it.
for _name, _value in {
    "OMP_NUM_THREADS": "1",
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    **PATIENT_START,
}.items():
    os.environ.setdefault(_name, _value)

# Fixtures that tests of several rooms share.
pytest_plugins = ["tests.small_runs", "tests.problems"]

DATA = "DDGM_DIST_DATA"


def pytest_configure() -> None:
    # No test is timed: a busy machine is no fault.
    settings.register_profile("untimed", deadline=None)
    settings.load_profile("untimed")


@pytest.fixture(scope="session")
def shared_data(pytestconfig: pytest.Config) -> Path:
    """Folder of the measured data: $DDGM_DIST_DATA, or ../shared/data beside the repository."""
    folder = Path(os.environ.get(DATA) or pytestconfig.rootpath.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"needs the measured data at {folder} (or where {DATA} says)")
    return folder


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Endpoint of a local S3 server."""
    words = [sys.executable, str(Path(__file__).with_name("s3_server.py"))]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.stdin.close()
        assert process.wait(timeout=120) == 0


@pytest.fixture(scope="module")
def bucket(s3_server: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """URL of an empty bucket; environment variables say how it is reached."""
    name = request.node.name.removesuffix(".py").replace("/", "-").replace("_", "-")
    with pytest.MonkeyPatch.context() as patch:
        for key in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
            patch.delenv(key, raising=False)
        patch.setenv("AWS_ENDPOINT_URL", s3_server)
        patch.setenv("AWS_REGION", "us-east-1")
        patch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
        ask = urllib.request.Request(f"{s3_server}/{name}", method="PUT")
        with urllib.request.urlopen(ask, timeout=120) as answer:
            assert answer.status == 200
        yield f"s3://{name}"
