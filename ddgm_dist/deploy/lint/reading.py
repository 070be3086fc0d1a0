"""Access to manifests that may be wrong in any way: missing or mistyped parts read as empty."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

__all__ = ["Pod", "as_list", "as_map", "number_of", "pods", "ray_cluster", "ray_pods", "text_of"]

Node = Mapping[str, Any]
Role = Literal["head", "worker", "submitter", "other"]

_SUFFIXES = {"m": Decimal("0.001"), "": Decimal(1)} | {
    name + binary: Decimal(1024 if binary else 1000) ** power
    for power, name in enumerate(("k", "M", "G", "T", "P", "E"), start=1)
    for binary in ("", "i")
}
_SUFFIXES["Ki"] = Decimal(1024)
# Path of the pod template, by kind.
_TEMPLATES = {
    "Deployment": "spec.template",
    "StatefulSet": "spec.template",
    "DaemonSet": "spec.template",
    "ReplicaSet": "spec.template",
    "Job": "spec.template",
    "CronJob": "spec.jobTemplate.spec.template",
    "Pod": "",
}


def as_map(node: object) -> Node:
    """The mapping, or an empty one; keys that are not strings are left out."""
    if not isinstance(node, Mapping):
        return {}
    return {key: value for key, value in node.items() if isinstance(key, str)}


def as_list(node: object) -> list[Any]:
    """The list, or an empty one."""
    return node if isinstance(node, list) else []


def text_of(node: object) -> str:
    """The string, or an empty one."""
    return node if isinstance(node, str) else ""


def number_of(node: object) -> Decimal | None:
    """The value of a Kubernetes quantity (``500m``, ``8Gi``, ``4``); None if it is not one."""
    if isinstance(node, bool) or not isinstance(node, (str, int, float)):
        return None
    match = re.fullmatch(r"\s*([+-]?[0-9.]+(?:[eE][+-]?[0-9]{1,3})?)\s*([a-zA-Z]*)\s*", str(node))
    if match is None or match[2] not in _SUFFIXES:
        return None
    try:
        return Decimal(match[1]) * _SUFFIXES[match[2]]
    except InvalidOperation:
        return None


@dataclass(frozen=True)
class Pod:
    """A pod template in a document.

    Attributes
    ----------
    path
        Path of the template.
    role
        Role of the pod in a Ray cluster.
    group
        Group of the head or worker; empty for others.
    spec
        Specification of the pod.
    containers
        Containers with their paths; the first of a head or worker runs Ray.
    """

    path: str
    role: Role
    group: Node
    spec: Node
    containers: tuple[tuple[str, Node], ...]

    @property
    def place(self) -> str:
        """Path of the group."""
        return self.path.removesuffix(".template")

    @property
    def params(self) -> Node:
        """The ``rayStartParams`` of the group."""
        return as_map(self.group.get("rayStartParams"))

    @property
    def ray(self) -> tuple[str, Node]:
        """The container that runs Ray."""
        return self.containers[0] if self.containers else (f"{self.path}.spec.containers", {})


def ray_cluster(document: Node) -> tuple[str, Node] | None:
    """Path and spec of the Ray cluster that a document describes; None if it describes none."""
    spec = as_map(document.get("spec"))
    if document.get("kind") == "RayCluster":
        return "spec", spec
    if document.get("kind") == "RayJob" and "rayClusterSpec" in spec:
        return "spec.rayClusterSpec", as_map(spec["rayClusterSpec"])
    return None


def pods(document: Node) -> Iterator[Pod]:
    """All pod templates of a document."""
    kind = text_of(document.get("kind"))
    if (where := _TEMPLATES.get(kind)) is not None:
        template = document
        for key in where.split(".") if where else ():
            template = as_map(template.get(key))
        yield _pod(where, "other", {}, template)
    found = ray_cluster(document)
    if found is not None:
        path, cluster = found
        head = as_map(cluster.get("headGroupSpec"))
        yield _pod(f"{path}.headGroupSpec.template", "head", head, head.get("template"))
        for number, each in enumerate(as_list(cluster.get("workerGroupSpecs"))):
            group, where = as_map(each), f"{path}.workerGroupSpecs.{number}.template"
            yield _pod(where, "worker", group, group.get("template"))
    submitter = as_map(document.get("spec")).get("submitterPodTemplate")
    if kind == "RayJob" and submitter is not None:
        yield _pod("spec.submitterPodTemplate", "submitter", {}, submitter)


def ray_pods(document: Node) -> Iterator[Pod]:
    """Pod templates of head and workers."""
    return (pod for pod in pods(document) if pod.role in ("head", "worker"))


def _pod(path: str, role: Role, group: Node, template: object) -> Pod:
    spec = as_map(as_map(template).get("spec"))
    lead = f"{path}.spec" if path else "spec"
    containers = tuple(
        (f"{lead}.{kind}.{number}", as_map(each))
        for kind in ("containers", "initContainers")
        for number, each in enumerate(as_list(spec.get(kind)))
    )
    return Pod(path, role, group, spec, containers)
