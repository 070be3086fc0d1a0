"""A pod that mounts the volumes and sleeps, to copy and inspect data."""

from __future__ import annotations

from typing import Any

from ddgm_dist.deploy.containers import (
    TEMPORARY,
    container_security,
    pod_security,
    volumes_and_mounts,
)
from ddgm_dist.deploy.pods import COMPONENT, LABELS
from ddgm_dist.deploy.site import Kubernetes
from ddgm_dist.deploy.yaml_text import dump
from ddgm_dist.errors import InputError

__all__ = ["data_pod", "render_data_pod"]

Document = dict[str, Any]

_SECONDS = 86400


def data_pod(site: Kubernetes) -> Document:
    """A Pod named ``data`` with the site's volumes, at the paths where runs see them.

    Raises
    ------
    InputError
        If the site has no volumes.
    """
    if not site.volumes:
        raise InputError(
            "kubernetes.volumes",
            "nothing",
            "there is no volume for the pod to mount",
            "name the claim that holds the data; a bucket needs no pod",
        )
    volumes, mounts = volumes_and_mounts(site)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "data",
            "namespace": site.namespace,
            "labels": {**LABELS, COMPONENT: "data"},
        },
        "spec": {
            "automountServiceAccountToken": False,
            "restartPolicy": "Never",
            "activeDeadlineSeconds": _SECONDS,
            **(
                {"imagePullSecrets": [{"name": name} for name in site.pull_secrets]}
                if site.pull_secrets
                else {}
            ),
            "securityContext": pod_security(site),
            "containers": [
                {
                    "name": "data",
                    "image": site.image,
                    "command": ["sleep", "infinity"],
                    "env": [{"name": "HOME", "value": TEMPORARY}],
                    "resources": {
                        "requests": {"cpu": "250m", "memory": "1Gi"},
                        "limits": {"cpu": "1", "memory": "1Gi"},
                    },
                    "securityContext": container_security(),
                    "volumeMounts": [{"name": "tmp", "mountPath": TEMPORARY}, *mounts],
                }
            ],
            "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}}, *volumes],
        },
    }


def render_data_pod(site: Kubernetes) -> str:
    """The Pod of :func:`data_pod` as YAML, with comments."""
    path, where = site.volumes[0].path if site.volumes else "", site.namespace
    return dump(
        data_pod(site),
        {
            "metadata.labels": "No NetworkPolicy but that for DNS selects it.",
            "spec.activeDeadlineSeconds": "It is deleted after a day, in case it is forgotten.",
        },
        head="Written by `ddgm-dist manifest data-pod`. A pod that mounts the data and sleeps:\n"
        f"kubectl -n {where} cp tilts.zarr data:{path}/tilts.zarr\n"
        f"kubectl -n {where} exec data -- ddgm-dist status {path}/volume.zarr\n"
        f"kubectl -n {where} delete pod data",
    )
