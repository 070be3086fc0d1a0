"""Commands and environment with which KubeRay starts a manifest's containers, as data.

KubeRay makes the command from ``rayStartParams`` and the container's limits. This module makes the
same command, so that tests can start a cluster on one machine alike.
Each pod has its own address. On one machine give every node its own ports, outside of 10002 to 19999,
which Ray keeps for its workers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ddgm_dist.deploy.lint.reading import as_list, as_map, number_of, ray_cluster
from ddgm_dist.errors import InputError

__all__ = ["environment", "head_start_command", "worker_start_command"]

# Defaults that the operator adds to a manifest.
_DEFAULTS = {"block": "true", "dashboard-agent-listen-port": "52365", "metrics-export-port": "8080"}
OPEN_FILES = 65536  # ``ulimit -n`` before `ray start`


def head_start_command(document: Mapping[str, Any]) -> tuple[str, ...]:
    """Words of ``ray start`` on the head of a RayJob or RayCluster.

    Raises
    ------
    InputError
        If the document is neither.
    """
    cluster = _cluster(document)
    defaults = {"dashboard-host": "0.0.0.0", **_DEFAULTS}
    if cluster.get("enableInTreeAutoscaling") is True:
        defaults["no-monitor"] = "true"  # the autoscaler is a container of its own
    return ("ray", "start", "--head", *_flags(as_map(cluster.get("headGroupSpec")), defaults))


def worker_start_command(
    document: Mapping[str, Any], address: str, *, group: int = 0
) -> tuple[str, ...]:
    """Words of ``ray start`` on a worker.

    Parameters
    ----------
    document
        RayJob or RayCluster.
    address
        ``HOST:PORT`` of the head.
    group
        Index of the worker group.

    Raises
    ------
    InputError
        If the document is neither, or has no such group.
    """
    return ("ray", "start", *_flags(_group(document, group), {"address": address, **_DEFAULTS}))


def environment(document: Mapping[str, Any], *, group: int | None = None) -> dict[str, str]:
    """Environment variables that a manifest gives to a container, with the mode of authentication.

    The token itself is left out: it is in ``RAY_AUTH_TOKEN``, from a Secret of the operator.

    Parameters
    ----------
    document
        RayJob or RayCluster.
    group
        Index of the worker group; the head when None.
    """
    cluster = _cluster(document)
    chosen = as_map(cluster.get("headGroupSpec")) if group is None else _group(document, group)
    found = {
        str(each["name"]): str(each["value"])
        for each in map(as_map, as_list(_container(chosen).get("env")))
        if "name" in each and "value" in each
    }
    if as_map(cluster.get("authOptions")).get("mode") == "token":
        found["RAY_AUTH_MODE"] = "token"
    return found


def _cluster(document: Mapping[str, Any]) -> Mapping[str, Any]:
    found = ray_cluster(document)
    if found is None:
        raise InputError("document", document.get("kind"), "is neither a RayJob nor a RayCluster")
    return found[1]


def _group(document: Mapping[str, Any], number: int) -> Mapping[str, Any]:
    groups = as_list(_cluster(document).get("workerGroupSpecs"))
    if not 0 <= number < len(groups):
        raise InputError("group", number, f"there are {len(groups)} worker groups")
    return as_map(groups[number])


def _container(group: Mapping[str, Any]) -> Mapping[str, Any]:
    containers = as_list(as_map(as_map(group.get("template")).get("spec")).get("containers"))
    return as_map(containers[0]) if containers else {}


def _flags(group: Mapping[str, Any], defaults: Mapping[str, str]) -> list[str]:
    params = {str(k): str(v) for k, v in as_map(group.get("rayStartParams")).items()}
    limits = as_map(as_map(_container(group).get("resources")).get("limits"))
    found = {**defaults, **params}
    for kind, size in limits.items():
        count = number_of(size)
        if count is None:
            continue
        name = {"cpu": "num-cpus", "memory": "memory"}.get(kind)
        if kind.endswith("gpu"):
            name = "num-gpus"
        if name is not None:
            found.setdefault(name, str(-(-count // 1)))
    return [
        f"--{name}" if value.lower() == "true" else f"--{name}={value}"
        for name, value in sorted(found.items())
    ]
