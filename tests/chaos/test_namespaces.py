"""Hosts with addresses of their own, and one of them cut off for a minute in the middle of a run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.namespaces import TRIALS, Hosts, Trial, hosts, run
from tests.chaos.network import UnavailableError

pytestmark = pytest.mark.chaos


@pytest.fixture(scope="module")
def cluster() -> Iterator[Hosts]:
    try:
        manager = hosts()
        found = manager.__enter__()
    except UnavailableError as error:
        pytest.skip(f"network namespaces cannot be made here: {error}")
    try:
        yield found
    finally:
        manager.__exit__(None, None, None)


@pytest.mark.parametrize("trial", [t for t in TRIALS if not t.prompt], ids=lambda trial: trial.name)
def test_volume_is_that_of_the_for_loop(trial: Trial, cluster: Hosts, tmp_path: Path) -> None:
    record = run(trial, cluster, tmp_path)
    assert record["broken"] == [], record
