"""What every test shares: where the measured data lie, and a quiet, bounded environment."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

DATA = "DDGM_DIST_DATA"


def pytest_configure() -> None:
    # Before torch and ray are first imported, and inherited by the processes that tests start.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
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
