"""Pod templates of a Ray cluster: what runs in them, how much they take, what they may do."""

from __future__ import annotations

import math
import posixpath
from typing import Any

from ddgm_dist.core.units import GIB, MIB
from ddgm_dist.deploy.resources import Resources
from ddgm_dist.deploy.site import Kubernetes, NodeGroup, Volume
from ddgm_dist.errors import InputError

__all__ = [
    "LABELS",
    "check_store",
    "container_security",
    "head_group",
    "labels_of",
    "pod_security",
    "quantity",
    "submitter_template",
    "volume_of",
    "volumes_and_mounts",
    "worker_group",
]

Document = dict[str, Any]

# By which NetworkPolicies find our pods; a run's PodDisruptionBudget by the instance too. Not by
# app.kubernetes.io/name: KubeRay gives pods that one, and its services select by it.
LABELS = {"app.kubernetes.io/part-of": "ddgm-dist"}
COMPONENT, INSTANCE = "app.kubernetes.io/component", "app.kubernetes.io/instance"

# Raylet, agents and, on the head, Ray's control store and dashboard.
OVERHEAD = GIB
SPILL, TEMPORARY, RAY_LOGS, CONFIG = "/spill", "/tmp", "/tmp/ray", "/etc/ddgm-dist"
DASHBOARD, AGENT, METRICS, GCS, CLIENT = 8265, 52365, 8080, 6379, 10001


def quantity(size: int) -> str:
    """Bytes as Kubernetes writes them: whole Gi where they are, else Mi rounded up."""
    return f"{size // GIB}Gi" if size % GIB == 0 else f"{math.ceil(size / MIB)}Mi"


def labels_of(name: str, component: str = "") -> dict[str, str]:
    """Labels of a run and of its pods: ours, the run's, and what a pod is in it."""
    return {**LABELS, INSTANCE: name, **({COMPONENT: component} if component else {})}


def volume_of(path: str, site: Kubernetes) -> Volume | None:
    """The volume on which pods find a path: the deepest one; None if there is none."""
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
        What it is called in the message.
    store
        A path, which must be on a volume; or a URL, ``file://`` being a path too.
    site
        With its volumes.
    written
        It must be writable.

    Raises
    ------
    InputError
        No volume holds it, or only a read-only one.
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
    """The head: Ray's control processes, and the driver. It computes nothing."""
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
            "spec": _pod(site, site.head, "ray-head", memory, gpus=0),
        },
    }


def worker_group(site: Kubernetes, name: str, needs: Resources, *, elastic: bool) -> Document:
    """Nodes that compute: each pod fills one, with a worker per GPU or one in all.

    Raises
    ------
    InputError
        The site's pods are too small for the run.
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
                **_pod(site, group, "ray-worker", memory, gpus=group.gpus),
            },
        },
    }


def submitter_template(site: Kubernetes, name: str) -> Document:
    """The pod that hands the command to the head and follows its log."""
    resources = {"cpu": "500m", "memory": "1Gi"}
    return {
        "metadata": {"labels": labels_of(name, "submitter")},
        "spec": {
            "automountServiceAccountToken": False,
            "restartPolicy": "Never",
            **_placement(site, site.head),
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


def pod_security(site: Kubernetes) -> Document:
    """Not root, and no more of the kernel than the runtime allows by default."""
    return {
        "runAsNonRoot": True,
        "runAsUser": site.uid,
        "runAsGroup": site.gid,
        "fsGroup": site.gid,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> Document:
    """Nothing that could gain rights; nothing of the image can be written."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def volumes_and_mounts(site: Kubernetes) -> tuple[list[Document], list[Document]]:
    """The site's claims, as a pod names them and as its container sees them."""
    volumes: list[Document] = []
    mounts: list[Document] = []
    for number, each in enumerate(site.volumes):
        name, rights = f"data-{number}", {"readOnly": True} if each.read_only else {}
        claim = {"claimName": each.claim, **rights}
        volumes.append({"name": name, "persistentVolumeClaim": claim})
        mounts.append({"name": name, "mountPath": each.path, **rights})
    return volumes, mounts


def _pod(site: Kubernetes, group: NodeGroup, name: str, memory: int, *, gpus: int) -> Document:
    return {
        "terminationGracePeriodSeconds": site.grace_seconds,
        **_placement(site, group),
        "securityContext": pod_security(site),
        "containers": [_container(site, group, name, memory, gpus)],
        "volumes": _volumes(site),
    }


def _placement(site: Kubernetes, group: NodeGroup) -> Document:
    """Which nodes, in whose name."""
    found: Document = {}
    if site.service_account is not None:
        found["serviceAccountName"] = site.service_account
    if site.priority_class is not None:
        found["priorityClassName"] = site.priority_class
    if site.pull_secrets:
        found["imagePullSecrets"] = [{"name": name} for name in site.pull_secrets]
    if group.node_selector:
        found["nodeSelector"] = dict(group.node_selector)
    if group.tolerations:
        found["tolerations"] = [
            {
                "key": each.key,
                "operator": "Exists" if each.value is None else "Equal",
                **({} if each.value is None else {"value": each.value}),
                "effect": each.effect,
            }
            for each in group.tolerations
        ]
    return found


def _container(site: Kubernetes, group: NodeGroup, name: str, memory: int, gpus: int) -> Document:
    disk = site.spill + 2 * site.scratch + GIB
    takes = {
        "cpu": str(group.cpus),
        "memory": quantity(memory),
        "ephemeral-storage": quantity(disk),
        **({group.gpu_resource: str(gpus)} if gpus else {}),
    }
    head = name == "ray-head"
    found: Document = {
        "name": name,
        "image": site.image,
        "imagePullPolicy": "IfNotPresent",
        "env": _environment(site),
    }
    if site.s3_secret is not None:
        found["envFrom"] = [{"secretRef": {"name": site.s3_secret}}]
    ports = {"gcs": GCS, "dashboard": DASHBOARD, "client": CLIENT} if head else {}
    found["ports"] = [
        {"name": name, "containerPort": port}
        for name, port in {**ports, "metrics": METRICS}.items()
    ]
    alive = {"path": "/api/local_raylet_healthz", "port": AGENT}
    ready = {"path": "/api/gcs_healthz", "port": DASHBOARD} if head else alive
    found |= {
        "resources": {"requests": dict(takes), "limits": dict(takes)},
        "readinessProbe": _probe(ready, failures=6),
        "livenessProbe": _probe(alive, failures=24),
        "securityContext": container_security(),
        "volumeMounts": _mounts(site),
    }
    return found


def _probe(get: Document, *, failures: int) -> Document:
    return {
        "httpGet": dict(get),
        "initialDelaySeconds": 15,
        "periodSeconds": 10,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _environment(site: Kubernetes) -> list[Document]:
    values = {
        "HOME": TEMPORARY,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": str(site.drain_seconds),
    }
    if site.s3_endpoint is not None:
        values["AWS_ENDPOINT_URL_S3"] = site.s3_endpoint
    if site.s3_region is not None:
        values["AWS_REGION"] = site.s3_region
    return [{"name": name, "value": value} for name, value in values.items()]


def _volumes(site: Kubernetes) -> list[Document]:
    found: list[Document] = [
        {"name": "tmp", "emptyDir": {"sizeLimit": quantity(site.scratch)}},
        {"name": "ray-logs", "emptyDir": {"sizeLimit": quantity(site.scratch)}},
        {"name": "spill", "emptyDir": {"sizeLimit": quantity(site.spill)}},
    ]
    found += volumes_and_mounts(site)[0]
    if site.config_map is not None:
        found.append({"name": "config", "configMap": {"name": site.config_map}})
    return found


def _mounts(site: Kubernetes) -> list[Document]:
    found: list[Document] = [
        {"name": "tmp", "mountPath": TEMPORARY},
        {"name": "ray-logs", "mountPath": RAY_LOGS},
        {"name": "spill", "mountPath": SPILL},
    ]
    found += volumes_and_mounts(site)[1]
    if site.config_map is not None:
        found.append({"name": "config", "mountPath": CONFIG, "readOnly": True})
    return found
