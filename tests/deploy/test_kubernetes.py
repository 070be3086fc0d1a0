"""The committed base and overlays: what is rendered is valid, safe, and what the command line writes."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections import Counter
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from ddgm_dist.cli import main
from ddgm_dist.deploy.command import Run
from ddgm_dist.deploy.data_pod import data_pod
from ddgm_dist.deploy.lint import Schemas, lint, lint_text
from ddgm_dist.deploy.lint.reading import as_map, pods
from ddgm_dist.deploy.rayjob import rayjob
from ddgm_dist.deploy.site import SiteProfile
from ddgm_dist.deploy.site_errors import _kinds
from ddgm_dist.errors import InputError
from tests.deploy.kuberay import KUBERNETES, NEEDS, REPOSITORY, schemas, site

NAMES = ("cpu-local", "gpu", "spot", "kueue", "volcano", "s3")
FOLDERS = ("base", *(f"overlays/{name}" for name in NAMES))


@cache
def _render(folder: str) -> str:
    return _kustomize(KUBERNETES / folder)


def _kustomize(folder: Path) -> str:
    if (found := shutil.which("kubectl")) is not None:
        words = [found, "kustomize"]
    elif (found := shutil.which("kustomize")) is not None:
        words = [found, "build"]
    else:
        pytest.skip("needs kubectl or kustomize on the PATH")
    done = subprocess.run([*words, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr
    return done.stdout


def rendered(folder: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(_render(folder)))


@cache
def regenerate() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "regenerate", REPOSITORY / "deploy" / "regenerate.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_all_overlays_are_listed() -> None:
    there = {
        str(path.parent.relative_to(KUBERNETES))
        for path in KUBERNETES.rglob("kustomization.yaml")
        if yaml.safe_load(path.read_text())["kind"] == "Kustomization"
    }
    assert there == set(FOLDERS) == set(regenerate().RAYJOBS)


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_committed_job_is_what_the_command_writes(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "rayjob.yaml"
    assert main(regenerate().command(folder, out)) == 0, capsys.readouterr().err
    committed = (KUBERNETES / folder / "rayjob.yaml").read_text()
    assert out.read_text() == committed, "run python deploy/regenerate.py"


def test_the_committed_cluster_is_what_the_command_writes_and_breaks_no_rule(
    tmp_path: Path,
) -> None:
    out = tmp_path / "raycluster.yaml"
    assert main(regenerate().cluster_command(out)) == 0
    committed = (KUBERNETES / regenerate().RAYCLUSTER).read_text()
    assert out.read_text() == committed, "run python deploy/regenerate.py"
    assert lint_text(committed, schemas()) == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_is_rendered_breaks_no_rule_also_where_there_are_no_crds(folder: str) -> None:
    documents = rendered(folder)
    assert [str(each) for each in lint(documents)] == []
    own = [each for each in documents if not each["apiVersion"].startswith("ray.io/")]
    assert len(own) == len(documents) - 1
    assert [str(each) for each in lint(own, Schemas())] == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_is_rendered_is_valid_and_breaks_no_rule(folder: str) -> None:
    assert [str(each) for each in lint(rendered(folder), schemas())] == []


def test_the_table_of_keys_is_of_the_model() -> None:
    module = regenerate()
    table = module.SITE_KEYS.read_text()
    assert table == module.site_keys(), "run python deploy/regenerate.py"
    # Every section that the model has is in it: a new one would be missing without a word.
    assert set(module.SECTIONS.values()) == _sections(SiteProfile) - {SiteProfile}


def _sections(model: type[BaseModel]) -> set[type[BaseModel]]:
    found: set[type[BaseModel]] = {model}
    for field in model.model_fields.values():
        for kind in _kinds(field.annotation):
            found |= _sections(kind)
    return found


def test_the_pod_that_copies_data_is_of_the_profile(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "data-pod.yaml"
    assert main(regenerate().data_pod_command(out)) == 0
    committed = (KUBERNETES / regenerate().DATA_POD).read_text()
    assert out.read_text() == committed, "run python deploy/regenerate.py"
    where = site(
        image="registry.example/other:1",
        namespace="tomo",
        pull_secrets=["pull"],
        volumes=[{"claim": "in", "path": "/in", "read_only": True}, {"claim": "out"}],
    )
    pod = data_pod(where)
    assert lint([pod], Schemas()) == []
    assert pod["metadata"]["namespace"] == "tomo"
    (container,) = pod["spec"]["containers"]
    assert container["image"] == "registry.example/other:1"
    job = rayjob("tomo", Run("/in/t.zarr", "/data/v.zarr"), NEEDS, where)
    (head,) = [each for each in pods(job) if each.role == "head"]
    for mine, its in (
        (pod["spec"]["volumes"], head.spec["volumes"]),
        (container["volumeMounts"], head.ray[1]["volumeMounts"]),
    ):
        shared = [each for each in its if each["name"].startswith("data-")]
        assert mine[1:] == shared
        assert len(shared) == 2
    with pytest.raises(InputError, match=r"kubernetes\.volumes"):
        data_pod(site(volumes=[]))


def test_the_pod_that_copies_data_is_valid_and_breaks_no_rule() -> None:
    text = (KUBERNETES / "data-pod.yaml").read_text()
    assert lint_text(text, Schemas()) == []
    # Of another kind than those that the policies let talk.
    assert yaml.safe_load(text)["metadata"]["labels"]["app.kubernetes.io/component"] == "data"


@pytest.mark.parametrize("folder", FOLDERS)
def test_nothing_of_the_base_shines_through_a_job(folder: str) -> None:
    (job,) = [each for each in rendered(folder) if each["kind"] == "RayJob"]
    assert job == yaml.safe_load((KUBERNETES / folder / "rayjob.yaml").read_text())


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_surrounds_every_job(folder: str) -> None:
    documents = rendered(folder)
    kinds = Counter(each["kind"] for each in documents)
    assert (kinds["RayJob"], kinds["Namespace"], kinds["PodDisruptionBudget"]) == (1, 1, 1)
    assert not kinds["Secret"]
    (job,) = [each for each in documents if each["kind"] == "RayJob"]
    inside = [each for each in documents if each["kind"] != "Namespace"]
    assert {each["metadata"]["namespace"] for each in inside} == {"ddgm"}
    labels = {
        pod.role: as_map(as_map(_template(job, pod.path)).get("metadata"))["labels"]
        for pod in pods(job)
    }
    policies = [each["spec"] for each in documents if each["kind"] == "NetworkPolicy"]
    closed = [each for each in policies if each["podSelector"] == {}]
    assert [sorted(each["policyTypes"]) for each in closed] == [["Egress", "Ingress"]]
    assert not {"ingress", "egress"} & set(closed[0])
    # Every other policy is about pods of ours: a selector with a slip in it would select nobody.
    for each in (each for each in policies if each["podSelector"] != {}):
        assert any(_selects(each["podSelector"], found) for found in labels.values())
    (budget,) = [each["spec"] for each in documents if each["kind"] == "PodDisruptionBudget"]
    chosen = {role for role, found in labels.items() if _selects(budget["selector"], found)}
    assert chosen == {"head"}


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize(
    ("source", "target", "port", "may"),
    [
        ("worker", "head", 6379, True),
        ("worker", "worker", 30001, True),
        ("head", "worker", 30001, True),
        ("submitter", "head", 8265, True),
        ("submitter", "head", 6379, False),
        ("submitter", "worker", 52365, False),
        ("stranger", "head", 8265, False),
        ("stranger", "worker", 30001, False),
        ("worker", "stranger", 80, False),
    ],
)
def test_who_may_talk_to_whom(folder: str, source: str, target: str, port: int, may: bool) -> None:
    documents = rendered(folder)
    (job,) = [each for each in documents if each["kind"] == "RayJob"]
    labels: dict[str, dict[str, str]] = {
        pod.role: as_map(as_map(_template(job, pod.path)).get("metadata"))["labels"]
        for pod in pods(job)
    }
    labels["stranger"] = {"app": "something-else"}
    policies = [each["spec"] for each in documents if each["kind"] == "NetworkPolicy"]
    out = _allowed(policies, "egress", labels[source], labels[target], port)
    into = _allowed(policies, "ingress", labels[target], labels[source], port)
    assert (out and into) is may


@pytest.mark.parametrize("folder", FOLDERS)
def test_any_name_and_namespace_will_do(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "kubernetes"
    shutil.copytree(KUBERNETES, copy)
    profile = copy / folder / "site.yaml"
    profile.write_text(profile.read_text().replace("namespace: ddgm", "namespace: tomo"))
    words = regenerate().command(folder, copy / folder / "rayjob.yaml")
    words[words.index("--site") + 1] = str(profile)
    assert main([*words, "--name", "specimen-7"]) == 0, capsys.readouterr().err
    documents = list(yaml.safe_load_all(_kustomize(copy / folder)))
    assert [str(each) for each in lint(documents)] == []
    assert len(documents) == len(rendered(folder))
    names = {each["metadata"]["name"] for each in documents if each["kind"] == "Namespace"}
    inside = [each for each in documents if each["kind"] != "Namespace"]
    assert names == {each["metadata"]["namespace"] for each in inside} == {"tomo"}
    (job,) = [each for each in documents if each["kind"] == "RayJob"]
    assert job == yaml.safe_load((copy / folder / "rayjob.yaml").read_text())
    assert job["metadata"]["name"] == "specimen-7"
    # Each run has a budget of its own: one for the heads of two runs would let one of them go.
    (budget,) = [each for each in documents if each["kind"] == "PodDisruptionBudget"]
    assert budget["metadata"]["name"] == "specimen-7-head"
    for run, chosen in ((job, {"head"}), (_job(rendered(folder)), set())):
        roles = {
            pod.role
            for pod in pods(run)
            if _selects(budget["spec"]["selector"], _labels(run, pod.path))
        }
        assert roles == chosen


def _job(documents: list[dict[str, Any]]) -> dict[str, Any]:
    (job,) = [each for each in documents if each["kind"] == "RayJob"]
    return job


def _labels(job: dict[str, Any], path: str) -> dict[str, str]:
    found: dict[str, str] = as_map(as_map(_template(job, path)).get("metadata"))["labels"]
    return found


def test_the_budget_as_it_is_written_keeps_the_head_of_the_committed_cluster() -> None:
    cluster = yaml.safe_load((KUBERNETES / "raycluster.yaml").read_text())
    budget = yaml.safe_load((KUBERNETES / "around" / "poddisruptionbudget.yaml").read_text())
    chosen = {
        pod.role
        for pod in pods(cluster)
        if _selects(budget["spec"]["selector"], _labels(cluster, pod.path))
    }
    assert chosen == {"head"}
    assert budget["metadata"]["namespace"] == cluster["metadata"]["namespace"]


def test_files_that_the_readme_names_are_there() -> None:
    text = (KUBERNETES / "README.md").read_text()
    named = set(re.findall(r"deploy/kubernetes/[\w./-]+|(?:around|overlays)/[\w./-]+", text))
    own = ("overlays/mine", "overlays/specimen7")  # made by the reader
    for path in (each.removeprefix("deploy/kubernetes/").rstrip(".") for each in named):
        assert path.startswith(own) or (KUBERNETES / path).exists(), path
    assert len(named) > 5


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_autoscaler_gives_way_to_a_queue(folder: str) -> None:
    (job,) = [each for each in rendered(folder) if each["kind"] == "RayJob"]
    cluster = job["spec"]["rayClusterSpec"]
    queued = folder in ("overlays/kueue", "overlays/volcano")
    assert cluster["enableInTreeAutoscaling"] is not queued
    assert ("autoscalerOptions" in cluster) is not queued
    group = cluster["workerGroupSpecs"][0]
    assert (group["minReplicas"] == group["replicas"]) is queued


def test_gpus_are_requested_as_they_are_limited() -> None:
    (job,) = [each for each in rendered("overlays/gpu") if each["kind"] == "RayJob"]
    group = job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
    container = group["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "4"
    assert container["resources"]["requests"] == container["resources"]["limits"]
    assert group["replicas"] == 2


def test_on_spot_nodes_only_the_workers() -> None:
    (job,) = [each for each in rendered("overlays/spot") if each["kind"] == "RayJob"]
    chosen = {pod.role for pod in pods(job) if "nodeSelector" in pod.spec}
    assert chosen == {"worker"}


def test_a_bucket_is_reached_with_a_secret_by_reference() -> None:
    documents = rendered("overlays/s3")
    (job,) = [each for each in documents if each["kind"] == "RayJob"]
    for pod in pods(job):
        if pod.role in ("head", "worker"):
            assert pod.ray[1]["envFrom"] == [{"secretRef": {"name": "ddgm-s3"}}]
    opened = {
        port["port"]
        for each in documents
        if each["kind"] == "NetworkPolicy" and each["metadata"]["name"] == "object-store"
        for rule in each["spec"]["egress"]
        for port in rule["ports"]
    }
    assert opened == {443}


def _template(job: dict[str, Any], path: str) -> Any:
    found: Any = job
    for key in path.split("."):
        found = found[int(key)] if isinstance(found, list) else found[key]
    return found


def _selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    exact = all(labels.get(k) == v for k, v in selector.get("matchLabels", {}).items())
    rules = selector.get("matchExpressions", [])
    assert {rule["operator"] for rule in rules} <= {"In"}
    return exact and all(labels.get(rule["key"]) in rule["values"] for rule in rules)


def _allowed(
    policies: list[dict[str, Any]],
    way: str,
    subject: dict[str, str],
    other: dict[str, str],
    port: int,
) -> bool:
    """Whether a pod of ours may talk one way with another pod of the namespace, by TCP."""
    ruling = [
        each
        for each in policies
        if way.title() in each["policyTypes"] and _selects(each["podSelector"], subject)
    ]
    if not ruling:
        return True
    peers = "from" if way == "ingress" else "to"
    return any(
        any(
            "namespaceSelector" not in peer
            and "podSelector" in peer
            and _selects(peer["podSelector"], other)
            for peer in rule[peers]
        )
        and ("ports" not in rule or any(each["port"] == port for each in rule["ports"]))
        for each in ruling
        for rule in each.get(way, [])
    )
