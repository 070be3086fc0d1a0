"""Rules of our own about a run's progress: nodes, retries, grace periods, autoscaling."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from ddgm_dist.deploy.lint.finding import Rule, Violation
from ddgm_dist.deploy.lint.reading import (
    Node,
    as_list,
    as_map,
    number_of,
    pods,
    ray_cluster,
    ray_pods,
    text_of,
)

__all__ = ["RULES"]

Problems = Iterator[Violation]

# Labels and taints of spot nodes in several clouds.
_SPOT = (
    "cloud.google.com/gke-spot",
    "cloud.google.com/gke-preemptible",
    "eks.amazonaws.com/capacityType",
    "karpenter.sh/capacity-type",
    "kubernetes.azure.com/scalesetpriority",
)
_STAYS = ("on-demand", "on_demand", "regular", "false", "reserved")
_GRACE = 120
_DRAIN = "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"


def driver_on_head(document: Node) -> Problems:
    if document.get("kind") != "RayJob":
        return
    spec = as_map(document.get("spec"))
    for key in ("entrypointNumCpus", "entrypointNumGpus", "entrypointResources"):
        if spec.get(key):
            yield Violation(
                f"spec.{key}",
                "puts the driver on a worker: when that node is taken away, the run ends",
                f"delete {key}, so that the driver stays on the head",
            )


def head_computes_nothing(document: Node) -> Problems:
    for pod in pods(document):
        if pod.role == "head" and str(pod.params.get("num-cpus", "")) != "0":
            yield Violation(
                f"{pod.place}.rayStartParams.num-cpus",
                f"{pod.params.get('num-cpus')!r}: workers may be put beside the driver, and take "
                "its memory",
                'write num-cpus: "0"',
            )


def head_stays(document: Node) -> Problems:
    for pod in pods(document):
        if pod.role != "head":
            continue
        for key, value in as_map(pod.spec.get("nodeSelector")).items():
            if key in _SPOT and str(value).lower() not in _STAYS:
                yield Violation(
                    f"{pod.path}.spec.nodeSelector",
                    f"{key}: {value} puts the head on nodes that may be taken away, and the driver "
                    "dies with it",
                    "select nodes that stay; only workers may be on spot nodes",
                )
        for number, each in enumerate(as_list(pod.spec.get("tolerations"))):
            if as_map(each).get("key") in _SPOT:
                yield Violation(
                    f"{pod.path}.spec.tolerations.{number}",
                    f"lets the head onto spot nodes ({as_map(each)['key']})",
                    "delete it; only workers may be on spot nodes",
                )


def ends_gracefully(document: Node) -> Problems:
    for pod in ray_pods(document):
        path = f"{pod.path}.spec.terminationGracePeriodSeconds"
        grace = number_of(pod.spec.get("terminationGracePeriodSeconds"))
        if grace is None or grace < _GRACE:
            yield Violation(
                path,
                f"{'30 (the default)' if grace is None else grace} s is too short to checkpoint a "
                "tile before the pod is killed",
                f"write {_GRACE} or more",
            )
        where, container = pod.ray
        drains = {
            text_of(as_map(each).get("name")): (number, number_of(as_map(each).get("value")))
            for number, each in enumerate(as_list(container.get("env")))
        }
        if _DRAIN not in drains:
            yield Violation(
                f"{where}.env",
                f"{_DRAIN} is missing: Ray drains for 30 s only",
                f"write {_DRAIN}, value 90",
            )
        else:
            number, drain = drains[_DRAIN]
            if drain is None or (grace is not None and drain >= grace):
                yield Violation(
                    f"{where}.env.{number}",
                    f"Ray drains for {drain} s, and the pod is killed after {grace} s",
                    "keep about 30 s between them",
                )


def retries(document: Node) -> Problems:
    if document.get("kind") != "RayJob":
        return
    spec = as_map(document.get("spec"))
    if spec.get("clusterSelector") or spec.get("submissionMode") == "InteractiveMode":
        return
    limit = spec.get("backoffLimit", 0)
    if not isinstance(limit, int) or limit < 1:
        yield Violation(
            "spec.backoffLimit",
            f"{limit!r}: a head that is lost ends the job, though the run could go on",
            "write backoffLimit: 2",
        )
        return
    try:
        words = shlex.split(text_of(spec.get("entrypoint")))
    except ValueError:
        words = []
    if "reconstruct" not in words:
        yield Violation(
            "spec.backoffLimit",
            f"{limit} retries of an entrypoint that is not known to resume would do all again",
            "let the entrypoint be ddgm-dist reconstruct, or write backoffLimit: 0",
        )
    elif "--overwrite" in words:
        yield Violation(
            "spec.entrypoint",
            "--overwrite makes a resubmitted job compute a finished volume again",
            "delete --overwrite; choose another output, or delete the old one beforehand",
        )


def gives_back(document: Node) -> Problems:
    if document.get("kind") != "RayJob":
        return
    spec = as_map(document.get("spec"))
    if spec.get("clusterSelector"):
        return
    if spec.get("shutdownAfterJobFinishes") is not True and "deletionStrategy" not in spec:
        yield Violation(
            "spec.shutdownAfterJobFinishes",
            "is not true: the cluster keeps its nodes when the run has ended",
            "write shutdownAfterJobFinishes: true",
        )
    if "activeDeadlineSeconds" not in spec:
        yield Violation(
            "spec.activeDeadlineSeconds",
            "is missing: a run that stands still keeps its nodes for ever",
            "write seconds, such as 604800",
        )


def autoscaler(document: Node) -> Problems:
    found = ray_cluster(document)
    if found is None:
        return
    path, cluster = found
    labels = as_map(as_map(document.get("metadata")).get("labels"))
    queues = [
        key for key in ("kueue.x-k8s.io/queue-name", "volcano.sh/queue-name") if key in labels
    ]
    elastic = cluster.get("enableInTreeAutoscaling") is True
    if elastic and queues:
        yield Violation(
            f"{path}.enableInTreeAutoscaling",
            f"{queues[0]} admits the job as a whole, and the autoscaler would change its size",
            "write enableInTreeAutoscaling: false, and minReplicas as replicas",
        )
    if elastic and as_map(cluster.get("autoscalerOptions")).get("version") != "v2":
        yield Violation(
            f"{path}.autoscalerOptions.version",
            "is not v2: v1 takes nodes away without draining them",
            "write autoscalerOptions: {version: v2}",
        )
    start = number_of(as_map(document.get("spec")).get("preRunningDeadlineSeconds"))
    idle = number_of(as_map(cluster.get("autoscalerOptions")).get("idleTimeoutSeconds")) or 60
    if elastic and document.get("kind") == "RayJob" and (start is None or idle < start):
        yield Violation(
            f"{path}.autoscalerOptions.idleTimeoutSeconds",
            f"{idle} s: while the last nodes are awaited (preRunningDeadlineSeconds: {start}), those "
            "that are there stand idle, and would be taken away",
            "write as many seconds as preRunningDeadlineSeconds, or more",
        )
    for number, each in enumerate(as_list(cluster.get("workerGroupSpecs"))):
        group = as_map(each)
        low, now, high = (
            number_of(group.get(k)) for k in ("minReplicas", "replicas", "maxReplicas")
        )
        if low is None or now is None or high is None or not low <= now <= high:
            yield Violation(
                f"{path}.workerGroupSpecs.{number}.replicas",
                f"{group.get('replicas')!r} is not between minReplicas {group.get('minReplicas')!r} "
                f"and maxReplicas {group.get('maxReplicas')!r}",
                "write all three",
            )


def dashboard(document: Node) -> Problems:
    for pod in pods(document):
        if pod.role != "head":
            continue
        host = text_of(pod.params.get("dashboard-host", "0.0.0.0"))
        if host not in ("0.0.0.0", "::"):
            yield Violation(
                f"{pod.place}.rayStartParams.dashboard-host",
                f"{host!r}: neither the submitter nor the operator reaches the head's dashboard "
                "there, so the command is never submitted",
                'write "0.0.0.0"; the token and a NetworkPolicy keep others out',
            )


def probes(document: Node) -> Problems:
    for pod in ray_pods(document):
        where, container = pod.ray
        for key in ("readinessProbe", "livenessProbe"):
            if key not in container:
                yield Violation(
                    f"{where}.{key}",
                    "is missing: the operator's own runs wget, which the image may not have",
                    "write httpGet: {path: /api/local_raylet_healthz, port: 52365}",
                )


RULES = (
    Rule("run/driver-on-head", "the driver runs on the head", driver_on_head),
    Rule("run/head-cpus", "the head computes nothing", head_computes_nothing),
    Rule("run/head-stays", "the head is on nodes that stay", head_stays),
    Rule("run/grace", "pods have time to end: grace above drain", ends_gracefully),
    Rule("run/retry", "a lost head is retried, and the retry resumes", retries),
    Rule("run/gives-back", "nodes are given back at the end", gives_back),
    Rule("run/autoscaler", "autoscaler v2, and none under a queue", autoscaler),
    Rule("run/dashboard", "submitter and operator reach the head's dashboard", dashboard),
    Rule("run/probes", "head and workers are probed", probes),
)
