"""Comments in manifests, which explain settings to an operator."""

from __future__ import annotations

from ddgm_dist.deploy.resources import Resources, quantity
from ddgm_dist.deploy.site import Kubernetes

__all__ = ["cluster_comments", "heading", "job_comments", "size_comments"]


def heading(command: str, resources: Resources) -> str:
    """Comment at the head of a manifest: its origin, and the plan."""
    return (
        f"Written by `ddgm-dist manifest {command}`; write it again rather than edit it.\n"
        f"Plan: {resources.tiles} tiles on {resources.workers} workers, each of "
        f"{resources.cpus} CPUs, {resources.gpus} GPUs and {quantity(resources.memory)} of memory."
    )


def job_comments(site: Kubernetes) -> dict[str, str]:
    """Comments by path, on the keys of a job that a cluster does not have."""
    found = {
        "spec.entrypoint": "Run again on the same output it resumes, so a retry loses no finished "
        "tile.",
        "spec.submissionMode": "A Kubernetes Job submits the command; only it and the operator need to "
        "reach the dashboard.",
        "spec.backoffLimit": "Each retry makes a new cluster, which recovers from a lost head.",
        "spec.submitterConfig": "Retries of submitting the command, not of the run.",
        "spec.preRunningDeadlineSeconds": "The job fails if it waits longer for nodes.",
        "spec.shutdownAfterJobFinishes": "Nodes are released when the run ends, also if it fails.",
        "spec.ttlSecondsAfterFinished": "Seconds until then, in which the head's logs can be read.",
    }
    if site.queue == "kueue":
        found["spec.suspend"] = "Kueue starts the job when all of it fits."
    return found


def cluster_comments(path: str, resources: Resources, site: Kubernetes) -> dict[str, str]:
    """Comments by path, on the cluster's keys."""
    head, workers = f"{path}.headGroupSpec", f"{path}.workerGroupSpecs.0"
    pod = f"{workers}.template.spec"
    per_pod = resources.per_node(site.workers.gpus)
    found = {
        f"{path}.authOptions": "The operator makes a secret token; without it nobody can submit code "
        "or read the state of the cluster.",
        f"{head}.rayStartParams.num-cpus": "No worker runs on the head, only the driver.",
        f"{head}.rayStartParams.dashboard-host": "For the submitter and the operator. The "
        "NetworkPolicy and the token keep all others out.",
        f"{head}.template.metadata.annotations": "The head must not be evicted: the run ends with it.",
        f"{workers}.replicas": f"One pod fills a node and runs {per_pod} "
        f"worker{'s' if per_pod > 1 else ''}.",
        f"{workers}.rayStartParams.memory": f"{per_pod} x {quantity(resources.memory)} for workers; "
        "the object store and Ray itself are extra, in the pod's limit.",
        f"{workers}.rayStartParams.object-store-memory": "In /dev/shm, which counts as the pod's "
        "memory. Only halos and receipts go through it.",
        f"{workers}.rayStartParams.object-spilling-directory": "Should stay empty: an object store "
        "that spills is too small.",
        f"{pod}.automountServiceAccountToken": "Workers do not need the API server.",
        f"{pod}.terminationGracePeriodSeconds": f"Seconds to end a pod: {site.drain_seconds} s for Ray "
        "to drain it (tiles are checkpointed and move to other pods), the rest to stop.",
        f"{pod}.containers.0.resources": "Requests are limits, so the plan's resources are "
        "guaranteed, and the pod is the last to be evicted.",
        f"{pod}.containers.0.livenessProbe": "Many failures are allowed: a busy node may "
        "answer late.",
    }
    if site.workers.spot and site.workers.node_selector:
        found[f"{pod}.nodeSelector"] = (
            "Nodes that may be taken away: lost work is repeated, with the same result."
        )
    return found


def size_comments(path: str, site: Kubernetes) -> dict[str, str]:
    """Comments by path, on the key that fixes a job's size."""
    if site.queue != "none":
        why = "The queue admits the job as a whole, so its size is fixed."
        return {f"{path}.enableInTreeAutoscaling": why}
    return {
        f"{path}.autoscalerOptions": "Releases idle nodes; but not while the job still waits for its "
        "last nodes, when the first are idle."
    }
