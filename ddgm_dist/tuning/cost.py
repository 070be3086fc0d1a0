"""The expected cost of tuning, before it is paid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ddgm_dist.core.units import format_duration
from ddgm_dist.tuning.candidates import Candidate
from ddgm_dist.tuning.successive_halving import count_calls

__all__ = ["Cost", "network_calls", "restored_starts"]


def restored_starts(candidate: Candidate) -> int:
    """Restored starts of a reconstruction of one block, 0 or 1."""
    return int(candidate.config.start == "restored")


def network_calls(candidate: Candidate) -> int:
    """Calls of both networks for one block: N of the denoiser, and one of a restorer."""
    return candidate.config.N + restored_starts(candidate)


@dataclass(frozen=True)
class Cost:
    """Expected cost of trying candidates.

    Attributes
    ----------
    denoiser_calls
        Calls of the denoiser, each for one block.
    starts
        Restored starts: a regularized inverse and a restorer call each.
    seconds
        Expected time.
    inverse_steps
        Conjugate gradient steps of a regularized inverse.
    """

    denoiser_calls: int
    starts: int
    seconds: float
    inverse_steps: int

    @classmethod
    def expected(
        cls,
        candidates: Sequence[Candidate],
        blocks: int,
        *,
        call: float,
        start: float,
        inverse_steps: int,
    ) -> Cost:
        """The cost of successive halving over so many blocks.

        Parameters
        ----------
        candidates, blocks
            What is tried, on up to so many blocks.
        call, start
            Measured seconds of an iteration and of a restored start.
        inverse_steps
            As the attribute.
        """
        calls = count_calls([c.config.N for c in candidates], blocks)
        starts = count_calls([restored_starts(c) for c in candidates], blocks)
        return cls(calls, starts, calls * call + starts * start, inverse_steps)

    def describe(self) -> str:
        """The cost as a clause."""
        starts = ""
        if self.starts:
            starts = (
                f" and {self.starts} restored starts (a restorer call and {self.inverse_steps} "
                "conjugate gradient steps each)"
            )
        return (
            f"about {self.denoiser_calls} denoiser calls{starts}, {format_duration(self.seconds)}"
        )
