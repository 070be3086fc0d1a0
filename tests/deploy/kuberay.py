"""What the tests of manifests share: a run, a site, and KubeRay's schemas where they are at hand."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ddgm_dist.core.units import GIB
from ddgm_dist.deploy.command import Run
from ddgm_dist.deploy.lint import Schemas
from ddgm_dist.deploy.resources import Resources
from ddgm_dist.deploy.site import Kubernetes, parse_site

REPOSITORY = Path(__file__).parents[2]
KUBERNETES = REPOSITORY / "deploy" / "kubernetes"
RUN = Run("/data/tilts.zarr", "/data/volume.zarr")
NEEDS = Resources(workers=8, tiles=64, cpus=4, memory=3 * GIB)


def site(**values: Any) -> Kubernetes:
    """A Kubernetes site with some values of its own."""
    base = {"image": "registry.example/ddgm-dist:0.1.0", "volumes": [{"claim": "ddgm-data"}]}
    return parse_site({"kubernetes": base | values}).on_kubernetes()


def crds() -> Path:
    """Directory of KubeRay's CRDs: $DDGM_DIST_CRDS, or ../shared/kuberay-crds beside the repository."""
    beside = REPOSITORY.parent / "shared" / "kuberay-crds"
    folder = Path(os.environ.get("DDGM_DIST_CRDS") or beside)
    if not folder.is_dir():
        pytest.skip(f"needs KubeRay's CRDs at {folder} (or where DDGM_DIST_CRDS says)")
    return folder


@cache
def _schemas(folder: Path) -> Schemas:
    return Schemas(folder)


def schemas() -> Schemas:
    """With the CRDs, read once."""
    return _schemas(crds())
