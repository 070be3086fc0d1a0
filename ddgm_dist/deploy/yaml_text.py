"""YAML for people: keys in the order they were written, comments where one would ask why."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import yaml

__all__ = ["dump"]

Path = tuple[str | int, ...]


def dump(document: Mapping[str, Any], comments: Mapping[str, str], *, head: str = "") -> str:
    """A document with comments above the keys that they explain.

    The same document gives the same text.

    Parameters
    ----------
    document
        Mappings, lists, strings, numbers and booleans.
    comments
        By dotted path of a key, such as ``spec.backoffLimit``; list items by number. Text of any
        length: it is wrapped.
    head
        Comment above the document.

    Raises
    ------
    KeyError
        A comment belongs to no key, so it explains nothing.
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
    """Line and column of every key."""
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
