"""Schemas of KubeRay's custom resources, from a directory, and of Kubernetes' kinds, from a package.

Unknown fields are refused, whereas the API server would silently drop them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from ddgm_dist.deploy.lint.finding import Finding
from ddgm_dist.deploy.lint.reading import text_of
from ddgm_dist.errors import InputError

__all__ = ["KUBERNETES", "Schemas", "strict"]

KUBERNETES = "1.31"
_INSTALL = "pip install 'ddgm-dist[deploy]'"


class Schemas:
    """Schemas by API version and kind.

    Parameters
    ----------
    crds
        Directory of CustomResourceDefinitions (YAML); None leaves these kinds unchecked.
    kubernetes
        Version of Kubernetes, such as 1.31.

    Raises
    ------
    InputError
        If the directory holds no CustomResourceDefinition.
    """

    def __init__(self, crds: str | Path | None = None, kubernetes: str = KUBERNETES) -> None:
        self.kubernetes = kubernetes
        self._custom: dict[tuple[str, str], Any] = {}
        if crds is None:
            return
        folder = Path(crds)
        if not folder.is_dir():
            raise InputError("--crds", str(crds), "is not a directory", "name the one of the CRDs")
        for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
            for found in yaml.load_all(path.read_text(encoding="utf-8"), Loader=_loader()):
                self._custom |= _definitions(found)
        if not self._custom:
            raise InputError(
                "--crds",
                str(crds),
                "holds no CustomResourceDefinition",
                "KubeRay's are in helm-chart/kuberay-operator/crds of its repository",
            )

    def check(self, document: Mapping[str, Any], label: str) -> Iterator[Finding]:
        """Find violations of the schema of the document's kind.

        A kind without a schema is a finding, for otherwise it would silently go unchecked.
        """
        kind, version = text_of(document.get("kind")), text_of(document.get("apiVersion"))
        # Both become part of the name of a schema's file.
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", kind) or not re.fullmatch(
            r"[a-z0-9.-]+(/[a-z0-9]+)?", version
        ):
            yield Finding(
                "schema/kind",
                label,
                "kind",
                "a document has apiVersion and kind",
                "write both, such as v1 and Namespace",
            )
        elif (version, kind) in self._custom:
            yield from self._check_custom(document, label, (version, kind))
        else:
            yield from self._check_builtin(document, label)

    def _check_custom(
        self, document: Mapping[str, Any], label: str, key: tuple[str, str]
    ) -> Iterator[Finding]:
        try:
            from jsonschema import Draft202012Validator
        except ImportError:
            raise _missing("jsonschema") from None
        for error in Draft202012Validator(self._custom[key]).iter_errors(document):
            yield _finding(label, list(error.absolute_path), error)

    def _check_builtin(self, document: Mapping[str, Any], label: str) -> Iterator[Finding]:
        try:
            from kubernetes_validate import utils as kv
        except ImportError:
            raise _missing("kubernetes-validate") from None
        try:
            kv.validate(dict(document), self.kubernetes, strict=True)
        except kv.ValidationError as error:
            yield _finding(label, list(error.absolute_path), error)
        except kv.SchemaNotFoundError:
            kind = f"{document['apiVersion']} {document['kind']}"
            plural = f"{str(document['kind']).lower()}s"
            name = f"{plural}.{str(document['apiVersion']).partition('/')[0]}"
            yield Finding(
                "schema/kind",
                label,
                "kind",
                f"no schema of {kind} is known, so nothing in it is checked",
                "correct apiVersion and kind; for a custom resource give a directory with its CRD with "
                f"--crds (mkdir -p crds; kubectl get crd {name} -o yaml > crds/{plural}.yaml)",
            )
        except kv.VersionNotSupportedError:
            raise InputError(
                "--kubernetes", self.kubernetes, f"known are {', '.join(kv.all_versions())}"
            ) from None


def strict(schema: Any) -> Any:
    """A schema that refuses unknown fields, which jsonschema accepts by default.

    Fields below ``x-kubernetes-preserve-unknown-fields`` are still accepted.
    """
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: strict(value) for key, value in schema.items()}
    closed = (
        found.get("type") == "object"
        and isinstance(found.get("properties"), dict)
        and "additionalProperties" not in found
        and not found.get("x-kubernetes-preserve-unknown-fields")
    )
    return {**found, "additionalProperties": False} if closed else found


def _definitions(found: Any) -> dict[tuple[str, str], Any]:
    """Schemas by (apiVersion, kind) of a CustomResourceDefinition; empty for other documents."""
    if not isinstance(found, dict) or found.get("kind") != "CustomResourceDefinition":
        return {}
    spec = found["spec"]
    kind, group = spec["names"]["kind"], spec["group"]
    schemas = {}
    for version in spec["versions"]:
        schema = version.get("schema", {}).get("openAPIV3Schema")
        if schema is None or not version.get("served"):
            continue
        whole = strict(schema)
        # The API server puts ObjectMeta there; a CRD does not spell it out.
        whole["properties"]["metadata"] = {"type": "object"}
        whole["required"] = sorted({*whole.get("required", ()), "apiVersion", "kind", "metadata"})
        schemas[(f"{group}/{version['name']}", kind)] = whole
    return schemas


def _finding(label: str, path: list[str | int], error: Any) -> Finding:
    where = ".".join(map(str, path)) or "(the document)"
    message = str(error.message)
    if len(message) > 300:
        message = f"{message[:140]} ... {message[-140:]}"
    if error.validator == "additionalProperties":
        mend = "correct its spelling or place, or delete it: the API server would drop it unseen"
        return Finding("schema/unknown-field", label, where, message, mend)
    return Finding("schema/value", label, where, message, "write what the schema asks for")


def _missing(package: str) -> InputError:
    return InputError("lint", package, "is needed to check schemas and is not installed", _INSTALL)


def _loader() -> type[yaml.SafeLoader] | type[yaml.CSafeLoader]:
    """The safe loader, in C if there is one, for these files have megabytes."""
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)
