"""YAML text with comments above keys, and keys in the order of the document.

It builds on PyYAML. ruamel.yaml writes YAML 1.2, where the strings ``yes``, ``off`` and ``12:30:00``
are not quoted. Kubernetes reads YAML 1.1, and would take them for booleans and a number.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import yaml

__all__ = ["dump"]

Path = tuple[str | int, ...]


def dump(document: Mapping[str, Any], comments: Mapping[str, str], *, head: str = "") -> str:
    """A document as YAML, with comments above the keys that they explain.

    Equal documents give equal text.

    Parameters
    ----------
    document
        Mappings, lists, strings, numbers and booleans.
    comments
        Comments by dotted path of a key, such as ``spec.backoffLimit``; list items by number. Long
        comments are wrapped.
    head
        Comment above the document.

    Raises
    ------
    KeyError
        If the document does not have the key of a comment.
    """
    text = yaml.dump(
        dict(document), Dumper=_Dumper, sort_keys=False, width=10_000, default_flow_style=False
    )
    places: dict[str, tuple[int, int]] = {}
    _find(yaml.compose(text, Loader=yaml.SafeLoader), (), places)
    if missing := sorted(set(comments) - set(places)):
        raise KeyError(f"comments on keys that the document has not: {', '.join(missing)}")
    above: dict[int, list[str]] = {}
    for path, comment in comments.items():
        at, column = places[path]
        above.setdefault(at, []).extend(_wrapped(comment, column))
    lines = _wrapped(head, 0) if head else []
    for number, line in enumerate(text.splitlines()):
        lines += [*above.get(number, []), line]
    return "\n".join(lines) + "\n"


class _Dumper(yaml.SafeDumper):
    """Lists indented below their key, as is usual for manifests; no anchors."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _find(node: Any, path: Path, places: dict[str, tuple[int, int]]) -> None:
    """Find line and column of every key, by dotted path."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*path, key.value)
            places[".".join(map(str, inner))] = (key.start_mark.line, key.start_mark.column)
            _find(value, inner, places)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _find(value, (*path, index), places)


def _wrapped(comment: str, column: int) -> list[str]:
    lead = " " * column + "# "
    lines: list[str] = []
    for paragraph in comment.splitlines():
        lines += textwrap.wrap(
            paragraph,
            width=max(60, 100 - column),
            initial_indent=lead,
            subsequent_indent=lead,
            break_on_hyphens=False,
            break_long_words=False,
        ) or [lead.rstrip()]
    return lines
