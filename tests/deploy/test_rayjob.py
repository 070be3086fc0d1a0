"""RayJobs: what they promise, on any site and for any run."""

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ddgm_dist.core.units import GIB, MIB
from ddgm_dist.deploy.command import Run
from ddgm_dist.deploy.lint import lint
from ddgm_dist.deploy.lint.reading import number_of, pods
from ddgm_dist.deploy.rayjob import raycluster, rayjob, render_raycluster, render_rayjob
from ddgm_dist.deploy.resources import Resources
from ddgm_dist.errors import InputError
from tests.deploy.kuberay import NEEDS, RUN, schemas, site

SITES: dict[str, dict[str, Any]] = {
    "plain": {},
    "gpu": {"workers": {"cpus": 16, "gpus": 4}},
    "spot": {"workers": {"spot": True, "node_selector": {"cloud.google.com/gke-spot": "true"}}},
    "kueue": {"queue": "kueue", "queue_name": "tomo"},
    "volcano": {"queue": "volcano", "queue_name": "tomo"},
    "bucket": {"volumes": [], "s3_secret": "s", "s3_endpoint": "https://s3.example"},
    "all": {
        "config_map": "ddgm",
        "pull_secrets": ["pull"],
        "priority_class": "high",
        "service_account": "ddgm",
        "volumes": [{"claim": "in", "path": "/in", "read_only": True}, {"claim": "out"}],
    },
}


BUCKET = Run("s3://b/tilts.zarr", "s3://b/volume.zarr")


def run(name: str) -> Run:
    return BUCKET if name == "bucket" else RUN


def needs(name: str) -> Resources:
    return Resources(8, 64, 4, 3 * GIB, gpus=1, gpu_memory=GIB) if name == "gpu" else NEEDS


@pytest.mark.parametrize("name", SITES)
def test_what_is_written_breaks_no_rule_and_fits_the_schema(name: str) -> None:
    where = site(**SITES[name])
    documents = [
        rayjob("tomo", run(name), needs(name), where),
        raycluster("tomo", needs(name), where),
    ]
    assert lint(documents, schemas()) == []


@pytest.mark.parametrize("name", SITES)
def test_the_text_is_the_document_with_comments(name: str) -> None:
    where = site(**SITES[name])
    job = render_rayjob("tomo", run(name), needs(name), where)
    assert yaml.safe_load(job) == rayjob("tomo", run(name), needs(name), where)
    cluster = render_raycluster("tomo", needs(name), where)
    assert yaml.safe_load(cluster) == raycluster("tomo", needs(name), where)
    assert job == render_rayjob("tomo", run(name), needs(name), site(**SITES[name]))
    assert sum(line.lstrip().startswith("#") for line in job.splitlines()) > 15


@given(
    workers=st.integers(1, 200),
    memory=st.integers(1, 400 * GIB),
    gpus=st.integers(0, 8),
    store=st.integers(80 * MIB, 64 * GIB),
)
def test_what_the_run_asks_for_is_there(workers: int, memory: int, gpus: int, store: int) -> None:
    cpus = 4 * max(1, gpus)
    where = site(
        workers={"cpus": cpus, "gpus": gpus}, object_store=store, head={"memory": "100GiB"}
    )
    asked = Resources(workers, 500, 4, memory, gpus=min(1, gpus))
    job = rayjob("tomo", RUN, asked, where)
    group = job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
    (pod,) = [pod for pod in pods(job) if pod.role == "worker"]
    limit = number_of(pod.ray[1]["resources"]["limits"]["memory"])
    room = int(group["rayStartParams"]["memory"])
    per_pod = max(1, gpus)
    assert group["replicas"] * per_pod >= workers > (group["replicas"] - 1) * per_pod
    assert room == per_pod * memory
    assert limit is not None
    assert limit >= room + store + GIB
    assert lint([job]) == []


def test_an_open_head_is_never_written() -> None:
    for service in ("NodePort", "LoadBalancer"):
        where = site(auth="disabled", head_service=service)
        with pytest.raises(InputError, match="anybody who reaches it could run any code"):
            rayjob("tomo", RUN, NEEDS, where)
        with pytest.raises(InputError, match="anybody who reaches it could run any code"):
            raycluster("tomo", NEEDS, where)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"ray_version": "2.51.9"}, "has no tokens"),
        ({"head": {"spot": True}}, "ends the run"),
        ({"workers": {"spot": True}}, "neither node_selector nor tolerations"),
        ({"head": {"memory": "2GiB"}}, "kubernetes.head.memory"),
        ({"workers": {"memory": "4GiB"}}, "larger nodes"),
        ({"drain_seconds": 120}, "grace_seconds"),
        ({"queue": "kueue"}, "queue_name"),
    ],
)
def test_a_site_that_cannot_carry_the_run_is_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        rayjob("tomo", RUN, NEEDS, site(**values))


VOLUMES = [
    {"claim": "in", "path": "/in", "read_only": True},
    {"claim": "data"},
    {"claim": "raw", "path": "/data/raw", "read_only": True},
]


@pytest.mark.parametrize(
    ("tilts", "out", "volumes", "says"),
    [
        ("/mnt/t.zarr", "/data/v.zarr", VOLUMES, "tilts = /mnt/t.zarr: is on none of"),
        ("/data/t.zarr", "/out/v.zarr", VOLUMES, "out = /out/v.zarr: is on none of"),
        ("/data/t.zarr", "/database/v.zarr", VOLUMES, "out = /database/v.zarr: is on none of"),
        ("/data/t.zarr", "/data/../out/v.zarr", VOLUMES, "is on none of"),
        ("file:///mnt/t.zarr", "/data/v.zarr", VOLUMES, "is on none of"),
        ("/data/t.zarr", "/in/v.zarr", VOLUMES, "is on the volume /in (in), which is read_only"),
        ("/data/t.zarr", "/data/raw/v.zarr", VOLUMES, "is on the volume /data/raw (raw)"),
        ("/data/t.zarr", "/data/v.zarr", [], "the site profile has none"),
        ("s3://b/t.zarr", "/data/v.zarr", [], "out = /data/v.zarr: is on none of"),
    ],
)
def test_stores_that_the_pods_would_not_see_are_refused(
    tilts: str, out: str, volumes: list[dict[str, Any]], says: str
) -> None:
    with pytest.raises(InputError) as caught:
        rayjob("tomo", Run(tilts, out), NEEDS, site(volumes=volumes))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("tilts", "out"),
    [
        ("/in/t.zarr", "/data/v.zarr"),
        ("/data/raw/t.zarr", "/data/new/v.zarr"),
        ("s3://b/t.zarr", "gs://b/v.zarr"),
        ("file:///in/t.zarr", "file:///data/v.zarr"),
    ],
)
def test_stores_on_volumes_and_in_buckets_will_do(tilts: str, out: str) -> None:
    job = rayjob("tomo", Run(tilts, out), NEEDS, site(volumes=VOLUMES))
    assert lint([job]) == []


def test_workers_have_the_cpus_that_they_ask_for() -> None:
    four = Resources(8, 64, 1, 3 * GIB, gpus=1)
    assert rayjob("tomo", RUN, four, site(workers={"gpus": 4, "cpus": 4}))
    with pytest.raises(InputError, match=r"less than the 4 x 1 CPUs"):
        rayjob("tomo", RUN, four, site(workers={"gpus": 4, "cpus": 2}))


def test_a_gpu_that_is_too_small_is_refused() -> None:
    large = Resources(4, 64, 4, 3 * GIB, gpus=1, gpu_memory=41 * GIB)
    with pytest.raises(InputError, match="smaller windows"):
        rayjob("tomo", RUN, large, site(workers={"gpus": 1, "gpu_memory": "40GiB"}))


@pytest.mark.parametrize("name", ["", "Tomo", "1tomo", "a" * 48, "tomo-", "tomo_1"])
def test_names_that_the_operator_refuses_are_refused_here(name: str) -> None:
    with pytest.raises(InputError, match="name"):
        rayjob(name, RUN, NEEDS, site())


def test_no_secret_is_written() -> None:
    where = site(s3_secret="bucket-key", volumes=[])
    job = rayjob("tomo", Run("s3://b/t.zarr", "s3://b/v.zarr"), NEEDS, where)
    for pod in pods(job):
        if pod.role in ("head", "worker"):
            assert pod.ray[1]["envFrom"] == [{"secretRef": {"name": "bucket-key"}}]
    assert "AWS_SECRET" not in json.dumps(job)


def test_what_the_issue_asks_of_a_rayjob() -> None:
    spec = rayjob("tomo", RUN, NEEDS, site())["spec"]
    assert spec["submissionMode"] == "K8sJobMode"
    assert spec["backoffLimit"] == 2
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["ttlSecondsAfterFinished"] > 0
    assert not {"entrypointNumCpus", "entrypointNumGpus", "runtimeEnvYAML"} & set(spec)
    cluster = spec["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["autoscalerOptions"]["version"] == "v2"
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    worker = cluster["workerGroupSpecs"][0]["template"]["spec"]
    assert worker["terminationGracePeriodSeconds"] == 120
    drain = {"name": "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S", "value": "90"}
    assert drain in worker["containers"][0]["env"]
    assert worker["automountServiceAccountToken"] is False
