"""The expected cost of tuning, before it is paid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ddgm_dist.core.units import format_duration
from ddgm_dist.planning.config import ProblemConfig
from ddgm_dist.tuning.candidates import Candidate
from ddgm_dist.tuning.successive_halving import count_calls

__all__ = ["Cost", "network_calls", "restorer_calls"]


def restorer_calls(config: ProblemConfig) -> int:
    """Calls of the restorer for one block, each with an inverse before it."""
    return config.restorer_calls * config.starts


def network_calls(candidate: Candidate) -> int:
    """Calls of both networks for one block: N of the denoiser, and those of a restorer."""
    return candidate.config.N + restorer_calls(candidate.config)


@dataclass(frozen=True)
class Cost:
    """Expected cost of trying candidates.

    Attributes
    ----------
    denoiser_calls
        Calls of the denoiser, each for one block.
    starts
        Calls of a restorer, with a regularized inverse each.
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
            Measured seconds of an iteration and of a restored start of one call.
        inverse_steps
            As the attribute.
        """
        calls = count_calls([c.config.N for c in candidates], blocks)
        starts = count_calls([restorer_calls(c.config) for c in candidates], blocks)
        return cls(calls, starts, calls * call + starts * start, inverse_steps)

    def describe(self) -> str:
        """The cost as a clause."""
        starts = ""
        if self.starts:
            starts = (
                f" and {self.starts} of the restorer (after at most {self.inverse_steps} conjugate "
                "gradient steps each)"
            )
        return (
            f"about {self.denoiser_calls} denoiser calls{starts}, {format_duration(self.seconds)}"
        )
