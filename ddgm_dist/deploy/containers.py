"""Containers of a Ray cluster's pods: resources, probes, environment, volumes and privileges."""

from __future__ import annotations

from typing import Any

from ddgm_dist.core.units import GIB
from ddgm_dist.deploy.resources import quantity
from ddgm_dist.deploy.site import Kubernetes, NodeGroup

__all__ = [
    "CONFIG",
    "SPILL",
    "TEMPORARY",
    "container_security",
    "placement",
    "pod_security",
    "pod_spec",
    "volumes_and_mounts",
]

Document = dict[str, Any]

SPILL, TEMPORARY, RAY_LOGS, CONFIG = "/spill", "/tmp", "/tmp/ray", "/etc/ddgm-dist"
DASHBOARD, AGENT, METRICS, GCS, CLIENT = 8265, 52365, 8080, 6379, 10001


def pod_security(site: Kubernetes) -> Document:
    """Security context of a pod: no root, and the runtime's default seccomp profile."""
    return {
        "runAsNonRoot": True,
        "runAsUser": site.uid,
        "runAsGroup": site.gid,
        "fsGroup": site.gid,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> Document:
    """Security context of a container: no more privileges, no capabilities, a read-only image."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def volumes_and_mounts(site: Kubernetes) -> tuple[list[Document], list[Document]]:
    """The site's claims as volumes of a pod, and as mounts of its container."""
    volumes: list[Document] = []
    mounts: list[Document] = []
    for number, each in enumerate(site.volumes):
        name, rights = f"data-{number}", {"readOnly": True} if each.read_only else {}
        claim = {"claimName": each.claim, **rights}
        volumes.append({"name": name, "persistentVolumeClaim": claim})
        mounts.append({"name": name, "mountPath": each.path, **rights})
    return volumes, mounts


def pod_spec(site: Kubernetes, group: NodeGroup, name: str, memory: int, *, gpus: int) -> Document:
    """Specification of a pod of a group, with one container that takes ``memory`` bytes."""
    return {
        "terminationGracePeriodSeconds": site.grace_seconds,
        **placement(site, group),
        "securityContext": pod_security(site),
        "containers": [_container(site, group, name, memory, gpus)],
        "volumes": _volumes(site),
    }


def placement(site: Kubernetes, group: NodeGroup) -> Document:
    """Keys of a pod that select its nodes, priority and service account."""
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
