"""Resources: what a plan needs, and nothing that a plan did not count."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddgm_dist.core.units import GIB, MIB
from ddgm_dist.deploy.planned import kubernetes_resources, plan_run, read_plan
from ddgm_dist.deploy.resources import Resources, resources_of
from ddgm_dist.errors import InputError
from ddgm_dist.tilts.series import TiltSeriesMeta, write_tilt_series
from tests.deploy.kuberay import KUBERNETES, site

PLAN = KUBERNETES / "plans" / "field.json"


def summary(**memory: Any) -> dict[str, Any]:
    found = read_plan(PLAN)
    return {**found, "memory": {**found["memory"], **memory}}


@pytest.mark.parametrize("projected", [1, 256 * MIB, GIB, 5 * GIB + 1])
def test_memory_is_the_plans_and_a_tenth_more(projected: int) -> None:
    found = resources_of(summary(worker=projected), cpus=4)
    assert 1.1 * projected <= found.memory < 1.1 * projected + 256 * MIB
    assert found.memory % (256 * MIB) == 0


def test_memory_that_the_plan_was_made_for_is_kept_to_the_byte() -> None:
    assert resources_of(summary(budget=3 * GIB + 7), cpus=4).memory == 3 * GIB + 7


def test_no_more_workers_than_tiles() -> None:
    assert resources_of({**summary(), "tiles": 3}, cpus=1).workers == 3
    assert resources_of({**summary(), "tiles": 300}, cpus=1).workers == summary()["workers"]


def test_gpu_memory_only_on_gpus() -> None:
    assert resources_of(summary(), cpus=4).gpu_memory == 0
    assert resources_of(summary(), cpus=4, gpus=1).gpu_memory == summary()["memory"]["gpu"]


@pytest.mark.parametrize(
    ("workers", "gpus", "per_node", "nodes"),
    [(8, 0, 1, 8), (8, 4, 4, 2), (9, 4, 4, 3), (1, 8, 8, 1)],
)
def test_a_node_has_a_worker_per_gpu_or_one(
    workers: int, gpus: int, per_node: int, nodes: int
) -> None:
    found = Resources(workers, 64, 4, GIB, gpus=min(1, gpus))
    assert (found.per_node(gpus), found.nodes(gpus)) == (per_node, nodes)


def test_a_pods_cpus_are_shared_by_its_workers() -> None:
    assert kubernetes_resources(summary(), site(workers={"cpus": 16, "gpus": 4})).cpus == 4
    assert kubernetes_resources(summary(), site(workers={"cpus": 16})).cpus == 16


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "{}", '{"tiles": 1, "workers": 1}', '{"tiles": "many"}']
)
def test_what_is_no_plan_is_refused_with_how_to_make_one(tmp_path: Path, text: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(InputError, match="plan"):
        resources_of(read_plan(path), cpus=1)


@pytest.mark.parametrize("field", ["workers", "tiles", "cpus", "memory"])
def test_nothing_is_not_enough(field: str) -> None:
    values = {"workers": 1, "tiles": 1, "cpus": 1, "memory": 1} | {field: 0}
    with pytest.raises(InputError, match=field):
        Resources(**values)


def test_a_plan_and_its_json_need_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    angles = tuple(np.linspace(-60, 60, 9).tolist())
    projections = rng.standard_normal((9, 16, 96), dtype=np.float32) + 20
    meta = TiltSeriesMeta(angles_deg=angles, thickness_px=16)
    write_tilt_series(tmp_path / "tilts.zarr", projections, meta)
    plan = plan_run(tmp_path / "tilts.zarr", {"N": 3, "mean": 0.0, "std": 1.0}, workers=8)
    found = resources_of(plan, cpus=2)
    assert found.tiles == len(plan.tiles)
    assert found.workers == min(8, len(plan.tiles))
    assert found == resources_of(json.loads(json.dumps(plan.to_dict())), cpus=2)
