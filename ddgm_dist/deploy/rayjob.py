"""RayJob and RayCluster manifests for the KubeRay operator."""

from __future__ import annotations

import re
import shlex
from typing import Any

from ddgm_dist.deploy.command import Run, reconstruct_command
from ddgm_dist.deploy.comments import cluster_comments, heading, job_comments, size_comments
from ddgm_dist.deploy.containers import TEMPORARY, container_security
from ddgm_dist.deploy.pods import (
    check_store,
    head_group,
    labels_of,
    submitter_template,
    worker_group,
)
from ddgm_dist.deploy.resources import Resources
from ddgm_dist.deploy.site import Kubernetes
from ddgm_dist.deploy.yaml_text import dump
from ddgm_dist.errors import InputError

__all__ = ["raycluster", "rayjob", "rayjob_entrypoint", "render_raycluster", "render_rayjob"]

Document = dict[str, Any]

# Longest names: the operator appends to them, and Kubernetes allows 63 characters.
LONGEST = {"RayJob": 47, "RayCluster": 53}
OLDEST_WITH_TOKENS = (2, 52, 0)


def rayjob_entrypoint(run: Run, resources: Resources) -> str:
    """The command that the head runs as the driver.

    Raises
    ------
    InputError
        If a word needs quotes, for two shells read it: the submitter's and Ray's job supervisor's.
    """
    words = reconstruct_command(run, resources)
    for word in words:
        if shlex.quote(word) != word:
            raise InputError(
                "entrypoint",
                word,
                "has characters that are special to a shell, and two shells read a RayJob's "
                "entrypoint",
                "rename the store, or put the override into a configuration file",
            )
    return " ".join(words)


def rayjob(name: str, run: Run, resources: Resources, site: Kubernetes) -> Document:
    """A RayJob: a cluster for one run, which is deleted after the run.

    Raises
    ------
    InputError
        If the site's nodes are too small, a name is not valid, or a store is on no volume.
        If anybody could run code on the head.
    """
    check_store("tilts", run.tilts, site)
    check_store("out", run.out, site, written=True)
    labels = {**labels_of(name), "app.kubernetes.io/name": name}
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
            "submitterPodTemplate": submitter_template(site, name),
            # Gang schedulers admit a job of one size; the autoscaler would change it.
            "rayClusterSpec": _cluster(site, name, resources, elastic=site.queue == "none"),
        },
    }


def raycluster(name: str, resources: Resources, site: Kubernetes) -> Document:
    """A RayCluster that stays, for ``ddgm-dist reconstruct --address`` and Ray's job interface.

    Raises
    ------
    InputError
        As :func:`rayjob`.
    """
    labels = {**labels_of(name), "app.kubernetes.io/name": name}
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
        # A run asks for all its workers at its start, and is refused where they are not.
        "spec": _cluster(site, name, resources, elastic=False),
    }


def render_rayjob(name: str, run: Run, resources: Resources, site: Kubernetes) -> str:
    """The manifest of :func:`rayjob` as YAML, with comments."""
    return dump(
        rayjob(name, run, resources, site),
        job_comments(site)
        | cluster_comments("spec.rayClusterSpec", resources, site)
        | size_comments("spec.rayClusterSpec", site),
        head=heading("rayjob", resources),
    )


def render_raycluster(name: str, resources: Resources, site: Kubernetes) -> str:
    """The manifest of :func:`raycluster` as YAML, with comments."""
    return dump(
        raycluster(name, resources, site),
        cluster_comments("spec", resources, site)
        | {
            "spec.enableInTreeAutoscaling": "A run asks for all its workers at its start, and is "
            "refused where they are not: the size is fixed."
        },
        head=heading("raycluster", resources),
    )


def _cluster(site: Kubernetes, name: str, resources: Resources, *, elastic: bool) -> Document:
    _check_head(site)
    if site.drain_seconds >= site.grace_seconds:
        raise InputError(
            "kubernetes.drain_seconds",
            site.drain_seconds,
            f"must be less than grace_seconds = {site.grace_seconds}: the pod is killed then",
            "keep about 30 s between them",
        )
    head = head_group(site, name)
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
        "idleTimeoutSeconds": site.start_deadline_seconds,
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
        "workerGroupSpecs": [worker_group(site, name, resources, elastic=elastic)],
    }


def _check_head(site: Kubernetes) -> None:
    if site.auth == "disabled" and site.head_service != "ClusterIP":
        raise InputError(
            "kubernetes.auth",
            site.auth,
            f"with head_service: {site.head_service}, anybody who reaches it could run any code on "
            "the cluster: Ray's job interface has no other protection",
            "leave auth at token, or head_service at ClusterIP",
        )
    version = tuple(int(part) for part in site.ray_version.split("."))
    if site.auth == "token" and version < OLDEST_WITH_TOKENS:
        raise InputError(
            "kubernetes.ray_version",
            site.ray_version,
            "has no tokens: these need 2.52.0 or newer",
            "build the image with a newer Ray",
        )
    if site.workers.spot and not (site.workers.node_selector or site.workers.tolerations):
        raise InputError(
            "kubernetes.workers.spot",
            site.workers.spot,
            "neither node_selector nor tolerations put the workers on such nodes",
            'name their label, such as node_selector: {cloud.google.com/gke-spot: "true"}',
        )
    if site.head.spot:
        raise InputError(
            "kubernetes.head.spot",
            site.head.spot,
            "a head that is taken away ends the run, for the driver runs on it",
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
