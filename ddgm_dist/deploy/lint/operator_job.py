"""Rules of the KubeRay operator (1.7) about jobs that the schema does not hold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ddgm_dist.deploy.lint.finding import Rule, Violation
from ddgm_dist.deploy.lint.reading import Node, as_list, as_map, pods, ray_cluster, text_of
from ddgm_dist.readers import strict_yaml

__all__ = ["RULES"]

Problems = Iterator[Violation]

_LONGEST = {"RayJob": 47, "RayCluster": 53}
_MODES = ("K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode")
_MANAGERS = ("ray.io/kuberay-operator", "kueue.x-k8s.io/multikueue")


def _job(document: Node) -> Node | None:
    return as_map(document.get("spec")) if document.get("kind") == "RayJob" else None


def _count(node: object) -> int:
    return node if isinstance(node, int) and not isinstance(node, bool) else 0


def name(document: Node) -> Problems:
    longest = _LONGEST.get(text_of(document.get("kind")))
    called = text_of(as_map(document.get("metadata")).get("name"))
    if longest is None:
        return
    if len(called) > longest or not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", called):
        yield Violation(
            "metadata.name",
            f"{called!r} ({len(called)} characters) is not a name of at most {longest} small "
            "letters, digits and dashes that starts with a letter",
            f"shorten it to {longest} characters or fewer",
        )


def submission_mode(document: Node) -> Problems:
    job = _job(document)
    if job is None:
        return
    mode = job.get("submissionMode", "K8sJobMode")
    if mode not in _MODES:
        yield Violation(
            "spec.submissionMode", f"{mode!r} is none of {', '.join(_MODES)}", "write K8sJobMode"
        )
    if mode == "InteractiveMode" and _count(job.get("backoffLimit")) > 0:
        yield Violation(
            "spec.backoffLimit",
            "a job in InteractiveMode is not retried",
            "write submissionMode: K8sJobMode, or backoffLimit: 0",
        )
    if mode == "SidecarMode":
        for key in ("submitterPodTemplate", "submitterConfig"):
            if key in job:
                yield Violation(
                    f"spec.{key}",
                    "SidecarMode has no submitter of its own",
                    f"delete {key}, or write submissionMode: K8sJobMode",
                )


def ttl_needs_shutdown(document: Node) -> Problems:
    job = _job(document)
    if job is None:
        return
    ttl = _count(job.get("ttlSecondsAfterFinished"))
    if ttl < 0:
        yield Violation("spec.ttlSecondsAfterFinished", f"{ttl} is negative", "write 600")
    if ttl > 0 and job.get("shutdownAfterJobFinishes") is not True:
        yield Violation(
            "spec.ttlSecondsAfterFinished",
            "has no meaning without shutdownAfterJobFinishes: true, and the cluster would stay",
            "write shutdownAfterJobFinishes: true",
        )


def deletion(document: Node) -> Problems:
    job = _job(document)
    if job is None or "deletionStrategy" not in job:
        return
    path, strategy = "spec.deletionStrategy", as_map(job["deletionStrategy"])
    rules = "deletionRules" in strategy
    legacy = [key for key in ("onSuccess", "onFailure") if key in strategy]
    if rules and job.get("shutdownAfterJobFinishes") is True:
        yield Violation(
            f"{path}.deletionRules",
            "excludes shutdownAfterJobFinishes: true",
            "delete one of the two",
        )
    if rules and legacy:
        yield Violation(path, f"deletionRules excludes {', '.join(legacy)}", "keep deletionRules")
    if not rules and len(legacy) != 2:
        yield Violation(
            path,
            "needs deletionRules, or both onSuccess and onFailure",
            "delete deletionStrategy and write shutdownAfterJobFinishes: true",
        )
    for number, each in enumerate(as_list(strategy.get("deletionRules"))):
        condition = as_map(as_map(each).get("condition"))
        if len({"jobStatus", "jobDeploymentStatus"} & set(condition)) != 1:
            yield Violation(
                f"{path}.deletionRules.{number}.condition",
                "needs exactly one of jobStatus and jobDeploymentStatus",
                "write jobStatus: FAILED, for instance",
            )


def suspend(document: Node) -> Problems:
    job = _job(document)
    if job is None or job.get("suspend") is not True:
        return
    if job.get("shutdownAfterJobFinishes") is not True:
        yield Violation(
            "spec.suspend",
            "a job that is to be suspended must give its cluster back when it finishes",
            "write shutdownAfterJobFinishes: true",
        )
    if job.get("clusterSelector"):
        yield Violation(
            "spec.suspend",
            "a job on a cluster that exists (clusterSelector) cannot be suspended",
            "delete clusterSelector",
        )


def cluster_selector(document: Node) -> Problems:
    job = _job(document)
    if job is None:
        return
    selector = job.get("clusterSelector")
    if not selector and "rayClusterSpec" not in job:
        yield Violation(
            "spec",
            "needs rayClusterSpec or clusterSelector",
            "describe a cluster in rayClusterSpec",
        )
    if selector and _count(job.get("backoffLimit")) > 0:
        yield Violation(
            "spec.backoffLimit",
            "a retry makes a new cluster, which clusterSelector excludes",
            "delete clusterSelector, or write backoffLimit: 0",
        )
    if selector and job.get("submissionMode") == "SidecarMode":
        yield Violation(
            "spec.clusterSelector",
            "SidecarMode needs a cluster of its own",
            "write submissionMode: K8sJobMode",
        )


def deadlines(document: Node) -> Problems:
    job = _job(document)
    if job is None:
        return
    if "activeDeadlineSeconds" in job and _count(job["activeDeadlineSeconds"]) <= 0:
        yield Violation(
            "spec.activeDeadlineSeconds", "must be positive", "write seconds, such as 86400"
        )
    if _count(job.get("backoffLimit")) < 0:
        yield Violation("spec.backoffLimit", "must not be negative", "write 2")


def runtime_env(document: Node) -> Problems:
    job = _job(document)
    if job is None or not text_of(job.get("runtimeEnvYAML")):
        return
    try:
        found: Any = strict_yaml.load(job["runtimeEnvYAML"])
    except strict_yaml.YamlError as error:
        yield Violation("spec.runtimeEnvYAML", str(error), "correct or delete it")
        return
    if not isinstance(found, dict):
        yield Violation("spec.runtimeEnvYAML", "is not a mapping", "write env_vars: {NAME: value}")


def managed_by(document: Node) -> Problems:
    found = ray_cluster(document)
    places = [("spec", as_map(document.get("spec")))] if _job(document) is not None else []
    for path, spec in [*places, *([found] if found else [])]:
        if "managedBy" in spec and spec["managedBy"] not in _MANAGERS:
            yield Violation(
                f"{path}.managedBy",
                f"{spec['managedBy']!r} is none of {', '.join(_MANAGERS)}",
                "delete it: it is for MultiKueue, and cannot be changed later",
            )


def restart_policy(document: Node) -> Problems:
    job = _job(document)
    if job is None or job.get("submissionMode") != "SidecarMode":
        return
    for pod in pods(document):
        if pod.role == "head" and pod.spec.get("restartPolicy", "Never") not in ("", "Never"):
            yield Violation(
                f"{pod.path}.spec.restartPolicy",
                "SidecarMode needs a head that is not restarted",
                "write Never, or delete it",
            )


RULES = (
    Rule("operator/name", "RayJobs have at most 47, RayClusters 53 characters", name),
    Rule(
        "operator/submission-mode",
        "submissionMode is one of four, with what fits it",
        submission_mode,
    ),
    Rule(
        "operator/ttl",
        "ttlSecondsAfterFinished goes with shutdownAfterJobFinishes",
        ttl_needs_shutdown,
    ),
    Rule("operator/deletion", "deletionRules exclude shutdownAfterJobFinishes", deletion),
    Rule("operator/suspend", "suspend goes with shutdownAfterJobFinishes", suspend),
    Rule(
        "operator/cluster-selector",
        "clusterSelector excludes retries and suspend",
        cluster_selector,
    ),
    Rule("operator/deadlines", "deadlines and limits are positive", deadlines),
    Rule("operator/runtime-env", "runtimeEnvYAML is YAML", runtime_env),
    Rule("operator/managed-by", "managedBy is one of two", managed_by),
    Rule("operator/sidecar", "SidecarMode wants a head that is not restarted", restart_policy),
)
