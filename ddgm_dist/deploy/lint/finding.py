"""Rules of the linter, and their findings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Check", "Finding", "Rule", "Violation"]


@dataclass(frozen=True)
class Violation:
    """A violation at a path of a document: what is wrong, and the remedy."""

    path: str
    why: str
    mend: str


Check = Callable[[Mapping[str, Any]], Iterator[Violation]]


@dataclass(frozen=True)
class Rule:
    """A rule that documents must keep.

    Attributes
    ----------
    name
        ``operator/...``: the operator would refuse the document. ``safe/...``: somebody would have
        access that nobody should have. ``run/...``: the run would be lost, or stall.
    law
        The rule in one line.
    check
        Function that finds violations.
    """

    name: str
    law: str
    check: Check


@dataclass(frozen=True)
class Finding:
    """A violation with its rule and document.

    Attributes
    ----------
    rule
        Name of the rule.
    document
        ``KIND/NAME``, after the file's name if there is one.
    path
        Dotted path in the document.
    why, mend
        The violation; the remedy.
    """

    rule: str
    document: str
    path: str
    why: str
    mend: str

    def __str__(self) -> str:
        return f"{self.document}: {self.path}: {self.why} [{self.rule}]\n    fix: {self.mend}"
