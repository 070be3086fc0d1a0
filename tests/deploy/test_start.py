"""What KubeRay would start: flags that this Ray takes, and resources that are the manifest's."""

from typing import Any

import click
import pytest
from ray.scripts.scripts import start

from ddgm_dist.core.units import GIB
from ddgm_dist.deploy.rayjob import rayjob
from ddgm_dist.deploy.resources import Resources
from ddgm_dist.errors import InputError
from tests.deploy.kuberay import NEEDS, RUN, site
from tests.deploy.operator_start import environment, head_start_command, worker_start_command


def flags(words: tuple[str, ...]) -> dict[str, Any]:
    """As Ray's own command line reads them."""
    assert words[:2] == ("ray", "start")
    command: click.Command = start
    return command.make_context("start", list(words[2:])).params


def test_the_head_computes_nothing_and_keeps_its_object_store_small() -> None:
    found = flags(head_start_command(rayjob("tomo", RUN, NEEDS, site(object_store="1GiB"))))
    assert (found["head"], found["block"], found["num_cpus"]) == (True, True, 0)
    assert found["object_store_memory"] == GIB
    assert found["object_spilling_directory"] == "/spill"
    assert found["dashboard_host"] == "0.0.0.0"


def test_the_autoscaler_is_a_container_of_its_own() -> None:
    queue = {"queue": "kueue", "queue_name": "tomo"}
    assert flags(head_start_command(rayjob("tomo", RUN, NEEDS, site())))["no_monitor"] is True
    assert (
        flags(head_start_command(rayjob("tomo", RUN, NEEDS, site(**queue))))["no_monitor"] is False
    )


def test_a_worker_offers_what_the_plan_counted() -> None:
    job = rayjob("tomo", RUN, NEEDS, site(workers={"cpus": 6}))
    found = flags(worker_start_command(job, "head:6379"))
    assert (found["head"], found["address"], found["num_cpus"]) == (False, "head:6379", 6)
    assert found["memory"] == NEEDS.memory
    assert not found["num_gpus"]


def test_gpus_come_from_the_containers_limits() -> None:
    needs = Resources(8, 64, 4, 3 * GIB, gpus=1)
    job = rayjob("tomo", RUN, needs, site(workers={"cpus": 16, "gpus": 4}))
    found = flags(worker_start_command(job, "head:6379"))
    assert (found["num_gpus"], found["memory"]) == (4, 12 * GIB)


def test_the_environment_asks_for_the_token_and_has_none() -> None:
    job = rayjob("tomo", RUN, NEEDS, site())
    for group in (None, 0):
        found = environment(job, group=group)
        assert found["RAY_AUTH_MODE"] == "token"
        assert found["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"] == "90"
        assert "RAY_AUTH_TOKEN" not in found


def test_other_documents_are_refused() -> None:
    with pytest.raises(InputError, match="neither a RayJob nor a RayCluster"):
        head_start_command({"kind": "Pod"})
    with pytest.raises(InputError, match="1 worker groups"):
        worker_start_command(rayjob("tomo", RUN, NEEDS, site()), "h:1", group=1)
