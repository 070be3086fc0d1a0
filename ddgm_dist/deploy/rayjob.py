"""RayJob and RayCluster manifests for the KubeRay operator."""

from __future__ import annotations

import re
import shlex
from typing import Any

from ddgm_dist.deploy.command import Run, reconstruct_command
from ddgm_dist.deploy.pods import (
    LABELS,
    TEMPORARY,
    container_security,
    head_group,
    quantity,
    submitter_template,
    worker_group,
)
from ddgm_dist.deploy.resources import Resources
from ddgm_dist.deploy.site import Kubernetes
from ddgm_dist.deploy.yaml_text import dump
from ddgm_dist.errors import InputError

__all__ = ["raycluster", "rayjob", "rayjob_entrypoint", "render_raycluster", "render_rayjob"]

Document = dict[str, Any]

# The operator appends to names, and Kubernetes' end at 63 characters.
LONGEST = {"RayJob": 47, "RayCluster": 53}
OLDEST_WITH_TOKENS = (2, 52, 0)


def rayjob_entrypoint(run: Run, resources: Resources) -> str:
    """The command that the head runs as the driver.

    Raises
    ------
    InputError
        A word would need quotes: a submitter's shell reads the line, then Ray's job supervisor's.
    """
    words = reconstruct_command(run, resources)
    for word in words:
        if shlex.quote(word) != word:
            raise InputError(
                "entrypoint",
                word,
                "has characters that a shell gives a meaning, and two shells read a RayJob's "
                "entrypoint",
                "rename the store, or put the override into a configuration file",
            )
    return " ".join(words)


def rayjob(name: str, run: Run, resources: Resources, site: Kubernetes) -> Document:
    """A RayJob: a cluster for one run, which is gone when the run has ended.

    Raises
    ------
    InputError
        The site's nodes are too small, a name does not do, or the head would be open to anybody.
    """
    labels = {**LABELS, "app.kubernetes.io/name": name}
    if site.queue != "none":
        labels |= _queue(site)
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {
            "name": _checked_name("RayJob", name),
            "namespace": site.namespace,
            "labels": labels,
        },
        "spec": {
            "entrypoint": rayjob_entrypoint(run, resources),
            "submissionMode": "K8sJobMode",
            **({"suspend": True} if site.queue == "kueue" else {}),
            "backoffLimit": site.backoff_limit,
            "submitterConfig": {"backoffLimit": 4},
            "activeDeadlineSeconds": site.deadline_seconds,
            "preRunningDeadlineSeconds": site.start_deadline_seconds,
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": site.ttl_seconds,
            "submitterPodTemplate": submitter_template(site),
            "rayClusterSpec": _cluster(site, resources),
        },
    }


def raycluster(name: str, resources: Resources, site: Kubernetes) -> Document:
    """A RayCluster that stays, for ``ddgm-dist reconstruct --address`` and Ray's job interface.

    Raises
    ------
    InputError
        As of :func:`rayjob`.
    """
    labels = {**LABELS, "app.kubernetes.io/name": name}
    if site.queue != "none":
        labels |= _queue(site)
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": {
            "name": _checked_name("RayCluster", name),
            "namespace": site.namespace,
            "labels": labels,
        },
        "spec": _cluster(site, resources),
    }


def render_rayjob(name: str, run: Run, resources: Resources, site: Kubernetes) -> str:
    """The same as YAML, with comments."""
    return dump(
        rayjob(name, run, resources, site),
        {**_job_comments(site), **_cluster_comments("spec.rayClusterSpec", resources, site)},
        head=_head("rayjob", resources),
    )


def render_raycluster(name: str, resources: Resources, site: Kubernetes) -> str:
    """The same as YAML, with comments."""
    return dump(
        raycluster(name, resources, site),
        _cluster_comments("spec", resources, site),
        head=_head("raycluster", resources),
    )


def _cluster(site: Kubernetes, resources: Resources) -> Document:
    _refuse_open_head(site)
    if site.drain_seconds >= site.grace_seconds:
        raise InputError(
            "kubernetes.drain_seconds",
            site.drain_seconds,
            f"must be less than grace_seconds = {site.grace_seconds}: the pod is killed then",
            "keep about 30 s between them",
        )
    # Gang schedulers admit a job of one size; the autoscaler would change it.
    elastic = site.queue == "none"
    head = head_group(site)
    if not elastic:
        head["template"]["spec"] = {
            "automountServiceAccountToken": False,
            **head["template"]["spec"],
        }
    if elastic:
        # KubeRay's own service account, which may create and delete pods of this cluster.
        head["template"]["spec"].pop("serviceAccountName", None)
    scaler = {
        "version": "v2",
        "idleTimeoutSeconds": 300,
        "resources": {
            "requests": {"cpu": "500m", "memory": "512Mi"},
            "limits": {"cpu": "500m", "memory": "512Mi"},
        },
        "securityContext": container_security(),
        "env": [{"name": "HOME", "value": TEMPORARY}],
        "volumeMounts": [{"name": "tmp", "mountPath": TEMPORARY}],
    }
    return {
        "rayVersion": site.ray_version,
        "authOptions": {"mode": site.auth},
        "enableInTreeAutoscaling": elastic,
        **({"autoscalerOptions": scaler} if elastic else {}),
        "headGroupSpec": head,
        "workerGroupSpecs": [worker_group(site, resources, elastic=elastic)],
    }


def _refuse_open_head(site: Kubernetes) -> None:
    if site.auth == "disabled" and site.head_service != "ClusterIP":
        raise InputError(
            "kubernetes.auth",
            site.auth,
            f"with head_service: {site.head_service}, anybody who reaches it could run any code on "
            "the cluster: Ray's job interface has no other lock",
            "leave auth at token, or head_service at ClusterIP",
        )
    version = tuple(int(part) for part in site.ray_version.split("."))
    if site.auth == "token" and version < OLDEST_WITH_TOKENS:
        raise InputError(
            "kubernetes.ray_version",
            site.ray_version,
            "knows no tokens: that takes 2.52.0 or newer",
            "build the image with a newer Ray",
        )
    if site.head.spot:
        raise InputError(
            "kubernetes.head.spot",
            site.head.spot,
            "a head that is taken away ends the run: the driver is there",
            "give the head nodes that stay; workers may be on spot nodes",
        )


def _checked_name(kind: str, name: str) -> str:
    longest = LONGEST[kind]
    if len(name) > longest or not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name):
        raise InputError(
            "name",
            name,
            f"is not the name of a {kind}: small letters, digits and dashes, a letter first, at "
            f"most {longest} characters",
            "give one with --name",
        )
    return name


def _queue(site: Kubernetes) -> dict[str, str]:
    if site.queue_name is None:
        raise InputError(
            "kubernetes.queue_name",
            "nothing",
            f"is needed with queue: {site.queue}",
            "name the LocalQueue (Kueue) or the Queue (Volcano) that admits the job",
        )
    if site.queue == "kueue":
        return {"kueue.x-k8s.io/queue-name": site.queue_name}
    return {"volcano.sh/queue-name": site.queue_name}


def _head(command: str, resources: Resources) -> str:
    return (
        f"Written by `ddgm-dist manifest {command}`; write it again rather than edit it.\n"
        f"Plan: {resources.tiles} tiles on {resources.workers} workers, each of "
        f"{resources.cpus} CPUs, {resources.gpus} GPUs and {quantity(resources.memory)} of memory."
    )


def _job_comments(site: Kubernetes) -> dict[str, str]:
    found = {
        "spec.entrypoint": "Run again on the same output it goes on where it stopped, so a retry "
        "loses no finished tile.",
        "spec.submissionMode": "A Kubernetes Job hands the command over; nothing but it and the "
        "operator needs to reach the dashboard.",
        "spec.backoffLimit": "Each retry makes a new cluster: the way back from a lost head.",
        "spec.submitterConfig": "Of handing over the command, not of the run.",
        "spec.preRunningDeadlineSeconds": "Waiting for nodes is not for ever.",
        "spec.shutdownAfterJobFinishes": "Nodes are given back when the run ends, however it ends.",
    }
    if site.queue == "kueue":
        found["spec.suspend"] = "Kueue lets it go when all of it fits."
    return found


def _cluster_comments(path: str, resources: Resources, site: Kubernetes) -> dict[str, str]:
    head, workers = f"{path}.headGroupSpec", f"{path}.workerGroupSpecs.0"
    pod = f"{workers}.template.spec"
    per_pod = resources.per_node(site.workers.gpus)
    found = {
        f"{path}.authOptions": "The operator makes a secret token; without it nobody can submit code "
        "or look into the cluster.",
        f"{head}.rayStartParams.num-cpus": "No worker is put on the head: only the driver runs there.",
        f"{head}.rayStartParams.dashboard-host": "For the submitter and the operator; the "
        "NetworkPolicy lets nobody else near, the token nobody else in.",
        f"{head}.template.metadata.annotations": "The head must not move: the driver dies with it.",
        f"{workers}.replicas": f"One pod fills a node and runs {per_pod} "
        f"worker{'s' if per_pod > 1 else ''}.",
        f"{workers}.rayStartParams.memory": f"{per_pod} x {quantity(resources.memory)} for workers; "
        "the object store and Ray itself come on top, in the pod's limit.",
        f"{workers}.rayStartParams.object-store-memory": "In /dev/shm, which counts as the pod's "
        "memory. Only halos and receipts go through it.",
        f"{workers}.rayStartParams.object-spilling-directory": "Should stay empty: an object store "
        "that spills is too small.",
        f"{pod}.automountServiceAccountToken": "Workers have no business with the API server.",
        f"{pod}.terminationGracePeriodSeconds": f"Of a pod that must go: {site.drain_seconds} s for "
        "Ray to drain it (tiles are checkpointed and move on), the rest to end.",
        f"{pod}.containers.0.resources": "Requests are limits: what the plan counted on is there, "
        "and the pod is the last to be evicted.",
        f"{pod}.containers.0.livenessProbe": "Patient: a busy node is not a dead one.",
    }
    if site.queue == "none":
        found[f"{path}.autoscalerOptions"] = (
            "Nodes that have nothing left to do are given back before the run ends."
        )
        found[f"{workers}.minReplicas"] = "The autoscaler may go down to this at a run's end."
    else:
        found[f"{path}.enableInTreeAutoscaling"] = (
            "The queue admits the job as a whole, so its size is fixed."
        )
    return found
