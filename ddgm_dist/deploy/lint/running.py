"""What loses a run, or lets it stand still: where things run, and how they end. Rules of our own."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise

from pydantic import ByteSize, TypeAdapter, ValidationError

from ddgm_dist.deploy.lint.finding import Problem, Rule
from ddgm_dist.deploy.lint.reading import (
    Node,
    Pod,
    as_list,
    as_map,
    number_of,
    pods,
    ray_cluster,
    text_of,
)

__all__ = ["RULES"]

Problems = Iterator[Problem]

# Labels and taints by which clouds mark nodes that may be taken away.
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


def _ray_pods(document: Node) -> Iterator[Pod]:
    return (pod for pod in pods(document) if pod.role in ("head", "worker"))


def _group(pod: Pod) -> str:
    return pod.path.removesuffix(".template")


def _params(pod: Pod) -> Node:
    return as_map(pod.group.get("rayStartParams"))


def driver_on_head(document: Node) -> Problems:
    if document.get("kind") != "RayJob":
        return
    spec = as_map(document.get("spec"))
    for key in ("entrypointNumCpus", "entrypointNumGpus", "entrypointResources"):
        if spec.get(key):
            yield Problem(
                f"spec.{key}",
                "puts the driver on a worker: when that node is taken away, the run ends",
                f"delete {key}, so that the driver stays on the head",
            )


def head_computes_nothing(document: Node) -> Problems:
    for pod in pods(document):
        if pod.role == "head" and str(_params(pod).get("num-cpus", "")) != "0":
            yield Problem(
                f"{_group(pod)}.rayStartParams.num-cpus",
                f"{_params(pod).get('num-cpus')!r}: workers may be put beside the driver, and take "
                "its memory",
                'write num-cpus: "0"',
            )


def head_stays(document: Node) -> Problems:
    for pod in pods(document):
        if pod.role != "head":
            continue
        for key, value in as_map(pod.spec.get("nodeSelector")).items():
            if key in _SPOT and str(value).lower() not in _STAYS:
                yield Problem(
                    f"{pod.path}.spec.nodeSelector",
                    f"{key}: {value} puts the head on nodes that may be taken away, and the driver "
                    "dies with it",
                    "select nodes that stay; only workers may be on spot nodes",
                )
        for number, each in enumerate(as_list(pod.spec.get("tolerations"))):
            if as_map(each).get("key") in _SPOT:
                yield Problem(
                    f"{pod.path}.spec.tolerations.{number}",
                    f"lets the head onto spot nodes ({as_map(each)['key']})",
                    "delete it; only workers may be on spot nodes",
                )


def requests_are_limits(document: Node) -> Problems:
    for pod in _ray_pods(document):
        where, container = pod.ray
        resources = as_map(container.get("resources"))
        requests, limits = as_map(resources.get("requests")), as_map(resources.get("limits"))
        for kind in sorted({"cpu", "memory"} | set(requests) | set(limits)):
            asked, given = number_of(requests.get(kind)), number_of(limits.get(kind))
            if asked is None or asked != given:
                yield Problem(
                    f"{where}.resources",
                    f"{kind}: requests {requests.get(kind)!r}, limits {limits.get(kind)!r}: what "
                    "the plan counts on may not be there",
                    f"write the same {kind} in both",
                )


def gpus_agree(document: Node) -> Problems:
    for pod in _ray_pods(document):
        _, container = pod.ray
        limits = as_map(as_map(container.get("resources")).get("limits"))
        has = sum(
            (number_of(n) or Decimal(0) for k, n in limits.items() if k.endswith("gpu")), Decimal(0)
        )
        said = number_of(_params(pod).get("num-gpus"))
        if said is not None and said != has:
            yield Problem(
                f"{_group(pod)}.rayStartParams.num-gpus",
                f"{said} GPUs are announced, and the container has {has}",
                "delete it: the operator takes the number from the container's limits",
            )


def object_store(document: Node) -> Problems:
    for pod in _ray_pods(document):
        _, container = pod.ray
        limit = number_of(as_map(as_map(container.get("resources")).get("limits")).get("memory"))
        store = number_of(_params(pod).get("object-store-memory"))
        tasks = number_of(_params(pod).get("memory")) or Decimal(0)
        path = f"{_group(pod)}.rayStartParams.object-store-memory"
        if store is None:
            yield Problem(
                path,
                "is missing: Ray takes 30 % of the memory, which the plan gives to workers",
                'write bytes, such as "2147483648"',
            )
        elif limit is not None and store + tasks >= limit:
            yield Problem(
                path,
                f"with memory: {tasks} it comes to {store + tasks} bytes, and the container has "
                f"{limit}: nothing is left for Ray itself, and the kernel kills what is over",
                "raise the container's memory to a GiB more than both, or lower one",
            )


def spilling(document: Node) -> Problems:
    for pod in _ray_pods(document):
        directory = text_of(_params(pod).get("object-spilling-directory"))
        path = f"{_group(pod)}.rayStartParams.object-spilling-directory"
        if not directory:
            yield Problem(
                path,
                "is missing: objects would be spilt to Ray's log directory",
                "mount an emptyDir with a sizeLimit and name it here",
            )
            continue
        _, container = pod.ray
        mounts = {
            text_of(as_map(each).get("mountPath")): text_of(as_map(each).get("name"))
            for each in as_list(container.get("volumeMounts"))
        }
        volumes = {
            text_of(as_map(each).get("name")): as_map(each)
            for each in as_list(pod.spec.get("volumes"))
        }
        volume = volumes.get(mounts.get(directory, ""), {})
        if "sizeLimit" not in as_map(volume.get("emptyDir")):
            yield Problem(
                path,
                f"{directory} is not an emptyDir with a sizeLimit: spilling could fill the node's disk",
                "mount an emptyDir with a sizeLimit there",
            )


def volumes(document: Node) -> Problems:
    for pod in pods(document):
        lead = f"{pod.path}.spec" if pod.path else "spec"
        known = {text_of(as_map(each).get("name")) for each in as_list(pod.spec.get("volumes"))}
        for number, each in enumerate(as_list(pod.spec.get("volumes"))):
            empty = as_map(each).get("emptyDir")
            if empty is not None and "sizeLimit" not in as_map(empty):
                yield Problem(
                    f"{lead}.volumes.{number}", "has no limit", "write emptyDir: {sizeLimit: 5Gi}"
                )
        for where, container in pod.containers:
            for number, each in enumerate(as_list(container.get("volumeMounts"))):
                if text_of(as_map(each).get("name")) not in known:
                    yield Problem(
                        f"{where}.volumeMounts.{number}",
                        f"there is no volume {as_map(each).get('name')!r}: the operator would drop "
                        "the mount without a word",
                        "add the volume, or correct the name",
                    )
            for kind, key in (("env", "name"), ("volumeMounts", "mountPath"), ("ports", "name")):
                counts = Counter(
                    value
                    for each in as_list(container.get(kind))
                    if isinstance(value := as_map(each).get(key), str)
                )
                for value in (value for value, count in counts.items() if count > 1):
                    yield Problem(f"{where}.{kind}", f"{value} is there twice", "keep one")


def ends_gracefully(document: Node) -> Problems:
    for pod in _ray_pods(document):
        path = f"{pod.path}.spec.terminationGracePeriodSeconds"
        grace = number_of(pod.spec.get("terminationGracePeriodSeconds"))
        if grace is None or grace < _GRACE:
            yield Problem(
                path,
                f"{'30 (the default)' if grace is None else grace} s is too short for a tile to be "
                "put aside before the pod is killed",
                f"write {_GRACE} or more",
            )
        where, container = pod.ray
        drains = {
            text_of(as_map(each).get("name")): (number, number_of(as_map(each).get("value")))
            for number, each in enumerate(as_list(container.get("env")))
        }
        if _DRAIN not in drains:
            yield Problem(
                f"{where}.env",
                f"{_DRAIN} is missing: Ray drains for 30 s only",
                f"write {_DRAIN}, value 90",
            )
        else:
            number, drain = drains[_DRAIN]
            if drain is None or (grace is not None and drain >= grace):
                yield Problem(
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
        yield Problem(
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
        yield Problem(
            "spec.backoffLimit",
            f"{limit} retries of an entrypoint that is not known to resume would do all again",
            "let the entrypoint be ddgm-dist reconstruct, or write backoffLimit: 0",
        )
    elif "--overwrite" in words:
        yield Problem(
            "spec.entrypoint",
            "--overwrite makes each retry begin anew: what was finished is thrown away",
            "delete --overwrite; empty the output beforehand, if it is to be",
        )


def gives_back(document: Node) -> Problems:
    if document.get("kind") != "RayJob":
        return
    spec = as_map(document.get("spec"))
    if spec.get("clusterSelector"):
        return
    if spec.get("shutdownAfterJobFinishes") is not True and "deletionStrategy" not in spec:
        yield Problem(
            "spec.shutdownAfterJobFinishes",
            "is not true: the cluster keeps its nodes when the run has ended",
            "write shutdownAfterJobFinishes: true",
        )
    if "activeDeadlineSeconds" not in spec:
        yield Problem(
            "spec.activeDeadlineSeconds",
            "is missing: a run that stands still keeps its nodes for ever",
            "write seconds, such as 604800",
        )


def fits(document: Node) -> Problems:
    """What the entrypoint asks of the cluster is there."""
    found = ray_cluster(document)
    if found is None or document.get("kind") != "RayJob":
        return
    try:
        words = shlex.split(text_of(as_map(document.get("spec")).get("entrypoint")))
    except ValueError:
        yield Problem("spec.entrypoint", "is not a shell's line: a quote is open", "close it")
        return
    asked = dict(pairwise(words))
    workers, memory = number_of(asked.get("--workers")), _bytes(asked.get("--memory"))
    room = Decimal(0)
    for pod in pods(document):
        if pod.role != "worker":
            continue
        limits = as_map(as_map(pod.ray[1].get("resources")).get("limits"))
        gpus = sum(
            (number_of(n) or Decimal(0) for k, n in limits.items() if k.endswith("gpu")), Decimal(0)
        )
        each = max(gpus, Decimal(1))
        room += each * (number_of(pod.group.get("replicas")) or Decimal(0))
        node = number_of(_params(pod).get("memory")) or number_of(limits.get("memory"))
        if memory is not None and node is not None and memory * each > node:
            yield Problem(
                f"{_group(pod)}.rayStartParams.memory",
                f"{node} bytes are less than {each} workers of --memory {asked['--memory']} take: "
                "the run would be refused",
                "write the manifest again from the plan, or give the pods more",
            )
    if workers is not None and workers > room:
        yield Problem(
            "spec.entrypoint",
            f"--workers {workers} are more than the {room} that the worker groups have room for",
            "raise replicas, or ask for fewer",
        )


def _bytes(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return int(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError:
        return None


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
        yield Problem(
            f"{path}.enableInTreeAutoscaling",
            f"{queues[0]} admits the job as a whole, and the autoscaler would change its size",
            "write enableInTreeAutoscaling: false, and minReplicas as replicas",
        )
    if elastic and as_map(cluster.get("autoscalerOptions")).get("version") != "v2":
        yield Problem(
            f"{path}.autoscalerOptions.version",
            "is not v2: v1 takes nodes away without draining them",
            "write autoscalerOptions: {version: v2}",
        )
    for number, each in enumerate(as_list(cluster.get("workerGroupSpecs"))):
        group = as_map(each)
        low, now, high = (
            number_of(group.get(k)) for k in ("minReplicas", "replicas", "maxReplicas")
        )
        if low is None or now is None or high is None or not low <= now <= high:
            yield Problem(
                f"{path}.workerGroupSpecs.{number}.replicas",
                f"{group.get('replicas')!r} is not between minReplicas {group.get('minReplicas')!r} "
                f"and maxReplicas {group.get('maxReplicas')!r}",
                "write all three",
            )


def probes(document: Node) -> Problems:
    for pod in _ray_pods(document):
        where, container = pod.ray
        for key in ("readinessProbe", "livenessProbe"):
            if key not in container:
                yield Problem(
                    f"{where}.{key}",
                    "is missing: the operator's own runs wget, which the image may not have",
                    "write httpGet: {path: /api/local_raylet_healthz, port: 52365}",
                )


RULES = (
    Rule("run/driver-on-head", "the driver runs on the head", driver_on_head),
    Rule("run/head-cpus", "the head computes nothing", head_computes_nothing),
    Rule("run/head-stays", "the head is on nodes that stay", head_stays),
    Rule("run/requests", "requests are limits", requests_are_limits),
    Rule("run/gpus", "as many GPUs are announced as there are", gpus_agree),
    Rule("run/object-store", "the object store has a size, and fits", object_store),
    Rule("run/spill", "spilling goes to a disk of limited size", spilling),
    Rule("run/volumes", "scratch is limited, mounts have volumes, names are unique", volumes),
    Rule("run/grace", "pods have time to end: grace above drain", ends_gracefully),
    Rule("run/retry", "a lost head is retried, and the retry resumes", retries),
    Rule("run/gives-back", "nodes are given back at the end", gives_back),
    Rule("run/fits", "what the entrypoint asks for is there", fits),
    Rule("run/autoscaler", "autoscaler v2, and none under a queue", autoscaler),
    Rule("run/probes", "head and workers are probed", probes),
)
