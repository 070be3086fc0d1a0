"""Comments in manifests: where an operator would ask why."""

from __future__ import annotations

from ddgm_dist.deploy.pods import quantity
from ddgm_dist.deploy.resources import Resources
from ddgm_dist.deploy.site import Kubernetes

__all__ = ["cluster_comments", "heading", "job_comments", "size_comments"]


def heading(command: str, resources: Resources) -> str:
    """Where it comes from, and the plan."""
    return (
        f"Written by `ddgm-dist manifest {command}`; write it again rather than edit it.\n"
        f"Plan: {resources.tiles} tiles on {resources.workers} workers, each of "
        f"{resources.cpus} CPUs, {resources.gpus} GPUs and {quantity(resources.memory)} of memory."
    )


def job_comments(site: Kubernetes) -> dict[str, str]:
    """By path, of the keys that a job has and a cluster has not."""
    found = {
        "spec.entrypoint": "Run again on the same output it goes on where it stopped, so a retry "
        "loses no finished tile.",
        "spec.submissionMode": "A Kubernetes Job hands the command over; nothing but it and the "
        "operator needs to reach the dashboard.",
        "spec.backoffLimit": "Each retry makes a new cluster: the way back from a lost head.",
        "spec.submitterConfig": "Of handing over the command, not of the run.",
        "spec.preRunningDeadlineSeconds": "Waiting for nodes is not for ever.",
        "spec.shutdownAfterJobFinishes": "Nodes are given back when the run ends, however it ends.",
        "spec.ttlSecondsAfterFinished": "After so long: time to read the head's logs.",
    }
    if site.queue == "kueue":
        found["spec.suspend"] = "Kueue lets it go when all of it fits."
    return found


def cluster_comments(path: str, resources: Resources, site: Kubernetes) -> dict[str, str]:
    """By path, of the cluster's keys."""
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
    if site.workers.spot and site.workers.node_selector:
        found[f"{pod}.nodeSelector"] = (
            "Nodes that may be taken away: what is lost is done again, with the same result."
        )
    return found


def size_comments(path: str, site: Kubernetes) -> dict[str, str]:
    """By path, of what settles a job's size."""
    if site.queue != "none":
        why = "The queue admits the job as a whole, so its size is fixed."
        return {f"{path}.enableInTreeAutoscaling": why}
    return {
        f"{path}.autoscalerOptions": "Gives back nodes on which nothing runs; but not while the last "
        "ones are awaited, when the first stand idle."
    }
