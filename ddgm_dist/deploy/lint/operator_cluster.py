"""Rules of the KubeRay operator (1.7) about clusters that the schema does not hold."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ddgm_dist.deploy.lint.finding import Rule, Violation
from ddgm_dist.deploy.lint.reading import Node, as_list, as_map, pods, ray_cluster, text_of

__all__ = ["RULES"]

Problems = Iterator[Violation]

_TAKEN_BY_RAY = ("num-cpus", "num-gpus", "memory", "resources")


def containers(document: Node) -> Problems:
    for pod in pods(document):
        if pod.role in ("head", "worker") and not as_list(pod.spec.get("containers")):
            yield Violation(
                f"{pod.path}.spec.containers",
                "needs a container",
                "add one that has Ray in its image",
            )


def autoscaler(document: Node) -> Problems:
    found = ray_cluster(document)
    if found is None:
        return
    path, cluster = found
    options = as_map(cluster.get("autoscalerOptions"))
    head = next((pod for pod in pods(document) if pod.role == "head"), None)
    named = (
        {text_of(as_map(each).get("name")) for each in as_list(head.ray[1].get("env"))}
        if head
        else set()
    )
    if cluster.get("enableInTreeAutoscaling") is not True:
        if "RAY_enable_autoscaler_v2" in named:
            yield Violation(
                f"{path}.enableInTreeAutoscaling",
                "RAY_enable_autoscaler_v2 is set in the head, but the autoscaler is off",
                "write enableInTreeAutoscaling: true, or delete the variable",
            )
        return
    if "version" in options and "RAY_enable_autoscaler_v2" in named:
        yield Violation(
            f"{path}.autoscalerOptions.version",
            "excludes the variable RAY_enable_autoscaler_v2 of the head",
            "delete the variable",
        )
    for pod in pods(document):
        policy = pod.spec.get("restartPolicy", "Never")
        restarts = pod.role in ("head", "worker") and policy not in ("", "Never")
        if restarts and options.get("version", "v2") == "v2":
            yield Violation(
                f"{pod.path}.spec.restartPolicy",
                f"{policy!r} does not go with autoscaler v2, which replaces pods itself",
                "write Never, or delete it",
            )
        if pod.role == "worker" and pod.group.get("suspend") is True:
            yield Violation(
                f"{pod.place}.suspend",
                "a group cannot be suspended with the autoscaler on",
                "delete it",
            )


def resources_twice(document: Node) -> Problems:
    for pod in pods(document):
        params = pod.params
        both = [key for key in _TAKEN_BY_RAY if params.get(key)]
        if both and pod.group.get("resources"):
            yield Violation(
                f"{pod.place}.resources",
                f"excludes {', '.join(both)} in rayStartParams",
                "keep rayStartParams, and the container's own resources",
            )
        if "labels" in params:
            yield Violation(
                f"{pod.place}.rayStartParams.labels",
                "is not for rayStartParams",
                "move them to the group's own labels",
            )


def token_version(document: Node) -> Problems:
    found = ray_cluster(document)
    if found is None:
        return
    path, cluster = found
    options = as_map(cluster.get("authOptions"))
    numbers = re.match(r"(\d+)\.(\d+)", text_of(cluster.get("rayVersion")))
    version = (int(numbers[1]), int(numbers[2])) if numbers else None
    if options.get("mode") == "token" and (version is None or version < (2, 52)):
        yield Violation(
            f"{path}.rayVersion",
            f"{cluster.get('rayVersion')!r}: tokens (authOptions) need Ray 2.52.0 or newer, said here",
            "write the version of Ray in the image, 2.52.0 or newer",
        )
    if options.get("enableK8sTokenAuth") is True and document.get("kind") == "RayJob":
        yield Violation(
            f"{path}.authOptions.enableK8sTokenAuth", "is refused for a RayJob", "delete it"
        )


def feature_gates(document: Node) -> Problems:
    found = ray_cluster(document)
    if found is None:
        return
    path, cluster = found
    if "networkPolicy" in cluster:
        yield Violation(
            f"{path}.networkPolicy",
            "is refused: the operator's gate RayClusterNetworkPolicy is off by default",
            "delete it and apply a NetworkPolicy, as deploy/kubernetes/around does",
        )
    if as_map(cluster.get("tlsOptions")).get("enabled") is True:
        yield Violation(
            f"{path}.tlsOptions",
            "is refused: the operator's gate RayClusterMTLS is off by default",
            "delete it, or switch the gate on",
        )


def redis(document: Node) -> Problems:
    found = ray_cluster(document)
    if found is None:
        return
    for pod in pods(document):
        if pod.role != "head":
            continue
        path, container = pod.ray
        for number, each in enumerate(as_list(container.get("env"))):
            called = as_map(each).get("name")
            if called in ("RAY_REDIS_ADDRESS", "REDIS_PASSWORD", "REDIS_USERNAME"):
                yield Violation(
                    f"{path}.env.{number}",
                    f"{called} is for gcsFaultToleranceOptions alone",
                    "delete it: a lost head is a new cluster, and the run resumes",
                )
        for key in ("redis-password", "redis-username"):
            if key in pod.params:
                yield Violation(
                    f"{pod.place}.rayStartParams.{key}",
                    "is for gcsFaultToleranceOptions alone",
                    "delete it",
                )


RULES = (
    Rule("operator/containers", "head and workers have containers", containers),
    Rule("operator/autoscaler", "autoscaler v2 wants pods that are not restarted", autoscaler),
    Rule("operator/resources-twice", "resources are said once", resources_twice),
    Rule("operator/token-version", "tokens need rayVersion 2.52.0 or newer", token_version),
    Rule("operator/feature-gate", "fields behind a gate that is off are refused", feature_gates),
    Rule("operator/redis", "Redis is configured in one place", redis),
)
