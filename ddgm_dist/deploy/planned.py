"""Resources of a run on a site, from its tilt series and configuration or from a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddgm_dist.deploy.containers import CONFIG
from ddgm_dist.deploy.pods import volume_of
from ddgm_dist.deploy.resources import Resources, resources_of
from ddgm_dist.deploy.site import Kubernetes, Slurm
from ddgm_dist.errors import InputError

if TYPE_CHECKING:
    from ddgm_dist.planning.config import Config
    from ddgm_dist.planning.plan import Plan

__all__ = ["config_in_pods", "kubernetes_resources", "plan_run", "read_plan", "slurm_resources"]


def plan_run(
    tilts: str | Path,
    config: Config | Mapping[str, Any] | None,
    *,
    workers: int,
    memory: int | None = None,
    verify_input: bool = False,
) -> Plan:
    """Make the plan of a run.

    Parameters
    ----------
    tilts, config
        Store of the tilt series, as this machine sees it; configuration.
    workers, memory
        Largest number of workers, and bytes of each.
    verify_input
        Read all pixels and compare their digests with those stored at ingest.
    """
    from ddgm_dist.runs.plan import plan

    return plan(
        tilts, config, workers=workers, memory=memory, check_fit=False, verify_input=verify_input
    )


def read_plan(path: str | Path) -> dict[str, Any]:
    """Read a plan that ``ddgm-dist plan --json`` printed, for data that this machine does not see.

    Raises
    ------
    InputError
        If there is no such file, or it holds something else.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("--plan", str(path), "there is no such file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            "--plan",
            str(path),
            f"cannot be read ({error})",
            "write one with ddgm-dist plan TILTS.zarr --workers N --json",
        ) from error
    if not isinstance(found, dict):
        raise InputError("--plan", str(path), "is not a plan")
    return found


def kubernetes_resources(plan: Plan | Mapping[str, Any], site: Kubernetes) -> Resources:
    """Resources that a plan needs of a Kubernetes site's worker nodes."""
    group = site.workers
    return resources_of(
        plan, cpus=max(1, group.cpus // max(1, group.gpus)), gpus=min(1, group.gpus)
    )


def slurm_resources(plan: Plan | Mapping[str, Any], site: Slurm) -> Resources:
    """Resources that a plan needs of a SLURM site's nodes."""
    gpus = site.gpus_per_node
    return resources_of(plan, cpus=max(1, site.cpus_per_node // max(1, gpus)), gpus=min(1, gpus))


def config_in_pods(path: str | Path | None, site: Kubernetes) -> str:
    """Path of a configuration file in the driver's pod; empty when there is none.

    Raises
    ------
    InputError
        If it is neither in the site's ConfigMap nor on one of its volumes.
    """
    if path is None:
        return ""
    if site.config_map is not None:
        return f"{CONFIG}/{Path(path).name}"
    if volume_of(str(path), site) is not None:
        return str(path)
    raise InputError(
        "--config",
        str(path),
        "is a file of this machine, which the pods do not see",
        "name a ConfigMap in the site profile (config_map), which is made with `kubectl create "
        "configmap NAME --from-file`; or put the file on a volume; or use --set",
    )
