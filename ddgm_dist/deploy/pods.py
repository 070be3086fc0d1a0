"""Pod templates of a Ray cluster: the groups of head and workers, and the submitter."""

from __future__ import annotations

import math
import posixpath
from typing import Any

from ddgm_dist.core.units import GIB
from ddgm_dist.deploy.containers import (
    SPILL,
    TEMPORARY,
    container_security,
    placement,
    pod_security,
    pod_spec,
)
from ddgm_dist.deploy.resources import Resources, quantity
from ddgm_dist.deploy.site import Kubernetes, Volume
from ddgm_dist.errors import InputError

__all__ = [
    "LABELS",
    "check_store",
    "head_group",
    "labels_of",
    "submitter_template",
    "volume_of",
    "worker_group",
]

Document = dict[str, Any]

# Labels by which NetworkPolicies select our pods; a run's PodDisruptionBudget by the instance too.
# The label app.kubernetes.io/name is not used: KubeRay sets it on pods, and its services select by it.
LABELS = {"app.kubernetes.io/part-of": "ddgm-dist"}
COMPONENT, INSTANCE = "app.kubernetes.io/component", "app.kubernetes.io/instance"

# Memory of raylet and agents and, on the head, of Ray's control store and dashboard.
OVERHEAD = GIB


def labels_of(name: str, component: str = "") -> dict[str, str]:
    """Labels of a run, and of its pods with their component."""
    return {**LABELS, INSTANCE: name, **({COMPONENT: component} if component else {})}


def volume_of(path: str, site: Kubernetes) -> Volume | None:
    """The deepest volume that holds a path in the pods; None if there is none."""
    where = posixpath.normpath(path)
    found = [each for each in site.volumes if _below(where, posixpath.normpath(each.path))]
    return max(found, key=lambda each: len(posixpath.normpath(each.path)), default=None)


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def check_store(argument: str, store: str, site: Kubernetes, *, written: bool = False) -> None:
    """Refuse a store that the pods would not find, or could not write.

    Parameters
    ----------
    argument
        Name of the store in messages.
    store
        A path, which must be on a volume; or a URL, of which ``file://`` is a path too.
    site
        Site with its volumes.
    written
        True if the store must be writable.

    Raises
    ------
    InputError
        If no volume holds the store, or only a read-only one does.
    """
    path = store.removeprefix("file://")
    if "://" in path:
        return
    volume = volume_of(path, site)
    if volume is None:
        there = ", ".join(f"{each.path} ({each.claim})" for each in site.volumes)
        raise InputError(
            argument,
            store,
            "is on none of the site's volumes, so the pods do not see it; "
            + (f"there are {there}" if there else "the site profile has none"),
            "give the path as the pods see it, add the claim that holds it to kubernetes.volumes, "
            "or use a bucket (s3://...)",
        )
    if written and volume.read_only:
        raise InputError(
            argument,
            store,
            f"is on the volume {volume.path} ({volume.claim}), which is read_only",
            "write to another volume, or take read_only from this one in the site profile",
        )


def head_group(site: Kubernetes, name: str) -> Document:
    """The group of the head, with Ray's control processes and the driver; it solves no tiles."""
    memory = site.head.memory or 8 * GIB
    least = site.object_store + 2 * OVERHEAD
    if memory < least:
        raise InputError(
            "kubernetes.head.memory",
            quantity(memory),
            f"is less than the {quantity(least)} of the object store, Ray and the driver",
            "give it more, or lower kubernetes.object_store",
        )
    return {
        "serviceType": site.head_service,
        "rayStartParams": {
            "num-cpus": "0",
            "object-store-memory": str(int(site.object_store)),
            "object-spilling-directory": SPILL,
            "dashboard-host": "0.0.0.0",
        },
        "template": {
            "metadata": {
                "labels": labels_of(name, "head"),
                "annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"},
            },
            "spec": pod_spec(site, site.head, "ray-head", memory, gpus=0),
        },
    }


def worker_group(site: Kubernetes, name: str, needs: Resources, *, elastic: bool) -> Document:
    """The group of the workers: each pod fills a node, with a worker per GPU, or one if none.

    Raises
    ------
    InputError
        If the site's pods are too small for the run.
    """
    group = site.workers
    per_pod, pods = needs.per_node(group.gpus), needs.nodes(group.gpus)
    tasks = per_pod * needs.memory
    least = tasks + site.object_store + OVERHEAD
    memory = int(group.memory or math.ceil(least / GIB) * GIB)
    if memory < least:
        raise InputError(
            "kubernetes.workers.memory",
            quantity(memory),
            f"is less than the {quantity(least)} that a pod needs: {per_pod} workers of "
            f"{quantity(needs.memory)}, object store {quantity(site.object_store)}, Ray itself "
            f"{quantity(OVERHEAD)}",
            "take larger nodes, or make the plan for less with --memory",
        )
    if per_pod * needs.cpus > group.cpus:
        raise InputError(
            "kubernetes.workers.cpus",
            group.cpus,
            f"is less than the {per_pod} x {needs.cpus} CPUs of a pod's workers",
            "give the pod more CPUs, or fewer GPUs: a worker runs on each",
        )
    if needs.gpus and group.gpu_memory is not None and needs.gpu_memory > group.gpu_memory:
        raise InputError(
            "kubernetes.workers.gpu_memory",
            quantity(group.gpu_memory),
            f"is less than the {quantity(needs.gpu_memory)} that the plan projects on a GPU",
            "take larger GPUs, or smaller windows (window, rows_per_call, tile_columns)",
        )
    return {
        "groupName": "workers",
        "replicas": pods,
        "minReplicas": 0 if elastic else pods,
        "maxReplicas": pods,
        "numOfHosts": 1,
        "rayStartParams": {
            "memory": str(tasks),
            "object-store-memory": str(int(site.object_store)),
            "object-spilling-directory": SPILL,
        },
        "template": {
            "metadata": {"labels": labels_of(name, "worker")},
            "spec": {
                "automountServiceAccountToken": False,
                **pod_spec(site, group, "ray-worker", memory, gpus=group.gpus),
            },
        },
    }


def submitter_template(site: Kubernetes, name: str) -> Document:
    """The pod that submits the command to the head and follows its log."""
    resources = {"cpu": "500m", "memory": "1Gi"}
    return {
        "metadata": {"labels": labels_of(name, "submitter")},
        "spec": {
            "automountServiceAccountToken": False,
            "restartPolicy": "Never",
            **placement(site, site.head),
            "securityContext": pod_security(site),
            "containers": [
                {
                    "name": "ray-job-submitter",
                    "image": site.image,
                    "env": [{"name": "HOME", "value": TEMPORARY}],
                    "resources": {"requests": dict(resources), "limits": dict(resources)},
                    "securityContext": container_security(),
                    "volumeMounts": [{"name": "tmp", "mountPath": TEMPORARY}],
                }
            ],
            "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}}],
        },
    }
