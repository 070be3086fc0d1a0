"""Schemas: what is misspelt or misplaced is refused, where the API server would drop it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from ddgm_dist.deploy.lint import Schemas, lint
from ddgm_dist.deploy.lint.schemas import strict
from ddgm_dist.deploy.rayjob import rayjob
from ddgm_dist.errors import InputError
from tests.deploy.kuberay import NEEDS, RUN, schemas, site

JOB = rayjob("tomo", RUN, NEEDS, site())

CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
spec:
  group: example.io
  names: {kind: Thing}
  versions:
    - name: v1
      served: true
      schema:
        openAPIV3Schema:
          type: object
          properties:
            apiVersion: {type: string}
            kind: {type: string}
            metadata: {type: object}
            spec:
              type: object
              required: [size]
              properties:
                size: {type: integer}
                any: {type: object, properties: {}, x-kubernetes-preserve-unknown-fields: true}
                map: {type: object, additionalProperties: {type: string}}
"""


@pytest.fixture
def own(tmp_path: Path) -> Schemas:
    (tmp_path / "thing.yaml").write_text(CRD)
    return Schemas(tmp_path)


def thing(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "example.io/v1", "kind": "Thing", "metadata": {"name": "t"}, "spec": spec}


@pytest.mark.parametrize(
    ("spec", "rules"),
    [
        ({"size": 1, "any": {"x": {"y": 1}}, "map": {"k": "v"}}, []),
        ({"size": 1, "seize": 1}, ["schema/unknown-field"]),
        ({"size": "1"}, ["schema/value"]),
        ({}, ["schema/value"]),
        ({"size": 1, "map": {"k": 1}}, ["schema/value"]),
    ],
)
def test_a_custom_resource_is_held_against_its_definition(
    own: Schemas, spec: dict[str, Any], rules: list[str]
) -> None:
    assert [each.rule for each in own.check(thing(**spec), "t")] == rules


@pytest.mark.parametrize(
    ("path", "value", "rule", "names"),
    [
        (("entrypint",), "x", "schema/unknown-field", "entrypint"),
        (
            ("rayClusterSpec", "headGroupSpec", "rayStartParms"),
            {},
            "schema/unknown-field",
            "rayStartParms",
        ),
        (
            ("rayClusterSpec", "workerGroupSpecs", 0, "minReplicas"),
            None,
            "schema/value",
            "minReplicas",
        ),
        (
            ("rayClusterSpec", "workerGroupSpecs", 0, "template", "spec", "tolerations"),
            [{"kee": "x"}],
            "schema/unknown-field",
            "kee",
        ),
        (
            ("rayClusterSpec", "authOptions", "mode"),
            "tokens",
            "schema/value",
            "mode",
        ),
    ],
)
def test_a_slip_in_a_rayjob_is_caught(
    path: tuple[str | int, ...], value: Any, rule: str, names: str
) -> None:
    wrong = copy.deepcopy(JOB)
    node: Any = wrong["spec"]
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    where = ".".join(map(str, ("spec", *path)))
    # Of an unknown field the place is its parent's, and the message names it.
    assert any(
        each.rule == rule
        and (where.startswith(each.path) or each.path.startswith(where))
        and names in f"{each.path} {each.why}"
        for each in schemas().check(wrong, "t")
    )


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"spec": {"minAvailabel": 1}}, "schema/unknown-field"),
        ({"spec": {"minAvailable": [1]}}, "schema/value"),
        ({"kind": "PodDisruptionBuget"}, "schema/kind"),
        ({"apiVersion": "policy/v9"}, "schema/kind"),
        ({"kind": None}, "schema/kind"),
        ({"kind": "../../x"}, "schema/kind"),
    ],
)
def test_a_slip_in_a_kind_of_kubernetes_is_caught(changes: dict[str, Any], rule: str) -> None:
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "b"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}},
    }
    assert list(Schemas().check(budget, "t")) == []
    assert [each.rule for each in Schemas().check(budget | changes, "t")] == [rule]


def test_a_kind_without_a_schema_is_never_passed_over() -> None:
    (found,) = [each for each in lint([JOB], Schemas()) if each.rule.startswith("schema")]
    assert "--crds" in found.mend


@pytest.mark.parametrize("kind", ["RayCluster", "RayJob"])
def test_a_definition_that_is_missing_is_asked_for_by_its_own_name(kind: str) -> None:
    (found,) = Schemas().check({"apiVersion": "ray.io/v1", "kind": kind, "metadata": {}}, "x")
    assert f"get crd {kind.lower()}s.ray.io " in found.mend


def test_only_objects_with_named_properties_are_closed() -> None:
    plain = {"type": "object", "additionalProperties": {"type": "string"}}
    assert strict(plain) == plain
    assert strict({"type": "object"}) == {"type": "object"}
    closed = strict({"items": [{"type": "object", "properties": {"a": {"type": "string"}}}]})
    assert closed["items"][0]["additionalProperties"] is False


def test_folders_without_definitions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no CustomResourceDefinition"):
        Schemas(tmp_path)
    with pytest.raises(InputError, match="not a directory"):
        Schemas(tmp_path / "nowhere")


def test_an_unknown_version_of_kubernetes_is_refused() -> None:
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}
    with pytest.raises(InputError, match=r"--kubernetes = 1\.99"):
        list(Schemas(kubernetes="1.99").check(config, "t"))
