"""Checks of manifests against schemas, the operator's rules and our own.

They take documents and return findings, without any access to a cluster. A finding has the rule, the
place and the remedy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ddgm_dist.deploy.lint import operator_cluster, operator_job, room, running, safety
from ddgm_dist.deploy.lint.finding import Finding, Rule
from ddgm_dist.deploy.lint.schemas import Schemas
from ddgm_dist.errors import InputError
from ddgm_dist.readers import strict_yaml

__all__ = ["RULES", "Finding", "Rule", "Schemas", "lint", "lint_files", "lint_text"]

RULES: tuple[Rule, ...] = (
    *operator_job.RULES,
    *operator_cluster.RULES,
    *safety.RULES,
    *running.RULES,
    *room.RULES,
)


def lint(
    documents: Iterable[Mapping[str, Any]], schemas: Schemas | None = None, *, source: str = ""
) -> list[Finding]:
    """Find all violations in some documents.

    Parameters
    ----------
    documents
        Documents as loaded from YAML.
    schemas
        Schemas to check against; only rules are checked when None.
    source
        Origin of the documents, for the findings.
    """
    found: list[Finding] = []
    for number, document in enumerate(documents):
        label = _label(document, number, source)
        if schemas is not None:
            found += schemas.check(document, label)
        for rule in RULES:
            found += [
                Finding(rule.name, label, each.path, each.why, each.mend)
                for each in rule.check(document)
            ]
    return found


def lint_text(
    text: str, schemas: Schemas | None = None, *, source: str = "manifest"
) -> list[Finding]:
    """Find all violations in YAML text of one document or several.

    Raises
    ------
    InputError
        If the text is not YAML, holds nothing, or a document is not a mapping.
    """
    try:
        documents = [each for each in strict_yaml.load_all(text) if each is not None]
    except strict_yaml.YamlError as error:
        raise InputError(source, "YAML", f"cannot be read: {error}") from error
    if not documents:
        raise InputError(source, "YAML", "holds no document", "name a file with manifests")
    for each in documents:
        if not isinstance(each, dict):
            raise InputError(source, each, "is not a mapping", "a manifest starts with apiVersion:")
    return lint(documents, schemas, source=source)


def lint_files(paths: Iterable[str | Path], schemas: Schemas | None = None) -> list[Finding]:
    """Find all violations in YAML files.

    Raises
    ------
    InputError
        As :func:`lint_text`; if a file cannot be read.
    """
    found: list[Finding] = []
    for path in paths:
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError("FILE", str(path), f"cannot be read ({error})") from error
        found += lint_text(text, schemas, source=str(path))
    return found


def _label(document: Mapping[str, Any], number: int, source: str) -> str:
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    lead = f"{source}: " if source else ""
    return f"{lead}{document.get('kind', 'document')}/{name or number}"
