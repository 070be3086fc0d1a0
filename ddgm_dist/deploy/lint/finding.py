"""What a rule finds, and what a rule is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Check", "Finding", "Rule", "Violation"]


@dataclass(frozen=True)
class Violation:
    """What is wrong at a place of a document, and how it is mended."""

    path: str
    why: str
    mend: str


Check = Callable[[Mapping[str, Any]], Iterator[Violation]]


@dataclass(frozen=True)
class Rule:
    """A rule.

    Attributes
    ----------
    name
        ``operator/...``: the operator would refuse the document. ``safe/...``: somebody could do
        what nobody should. ``run/...``: the run would be lost, or stand still.
    law
        What holds, in one line.
    check
        Finds where it does not.
    """

    name: str
    law: str
    check: Check


@dataclass(frozen=True)
class Finding:
    """One violation.

    Attributes
    ----------
    rule
        Its name.
    document
        ``KIND/NAME``, after the file's name where there is one.
    path
        Dotted path in the document.
    why, mend
        What is wrong; what to do.
    """

    rule: str
    document: str
    path: str
    why: str
    mend: str

    def __str__(self) -> str:
        return f"{self.document}: {self.path}: {self.why} [{self.rule}]\n    mend: {self.mend}"
