"""A method of the study: one signature, with what is searched of it and where its search begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from slabs import Slab
from torch import Tensor

Settings = Mapping[str, float | str]
Run = Callable[[Slab, Settings, int], Tensor]
Sweep = Callable[[Slab, Sequence[int]], Iterator[tuple[int, Tensor]]]


@dataclass(frozen=True)
class Real:
    """An interval that a setting is searched in."""

    low: float
    high: float
    log: bool = True


@dataclass(frozen=True)
class Whole:
    """Whole numbers that a setting is searched among, ends included."""

    low: int
    high: int


@dataclass(frozen=True)
class Choice:
    """Values that are all tried."""

    values: tuple[float | str, ...]


@dataclass(frozen=True)
class Method:
    """A method of the study.

    Attributes
    ----------
    run
        ``(slab, settings, seed) -> volume``, float32 ``(z, rows, columns)``.
    space, first
        What is searched, and where the search begins. With one `Choice` alone all are tried, and with
        nothing there is no search.
    denoises, restores
        Whether it takes N denoiser calls; whether it calls the restorer.
    N
        Denoiser calls; those of the study when None.
    sweep
        All estimates of a run by number of steps, where early stopping is what is searched.
    """

    run: Run
    space: Mapping[str, Real | Whole | Choice]
    first: Settings
    denoises: bool = False
    restores: bool = False
    N: int | None = None
    sweep: Sweep | None = None

    @property
    def exhaustive(self) -> bool:
        """True if all values are tried."""
        return all(isinstance(r, Choice) for r in self.space.values())

    def given(self, settings: Settings, N: int) -> Settings:
        """The settings of a run, with the study's number of denoiser calls unless it has its own."""
        return {**settings, "N": self.N or N} if self.denoises else settings

    def networks(self, prior: str, restorer: str) -> dict[str, str]:
        """Digests of the networks that it uses: with other ones it gives other results."""
        return {
            **({"prior": prior} if self.denoises else {}),
            **({"restorer": restorer} if self.restores else {}),
        }
