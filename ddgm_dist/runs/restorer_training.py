"""A warning where a series is not of the kind that its restorer was trained for."""

from __future__ import annotations

from ddgm_dist.algorithm.restorer import Acquisition
from ddgm_dist.operators.slab.inverse import sound_noise
from ddgm_dist.pixels.findings import Finding
from ddgm_dist.planning.problem import Problem
from ddgm_dist.prior.restorers import LoadedRestorer

__all__ = ["untrained"]


def untrained(problem: Problem, restorer: LoadedRestorer | None) -> tuple[Finding, ...]:
    """At most one finding, which names the numbers that lie outside of the restorer's training."""
    if restorer is None or restorer.trained is None:
        return ()
    noise = sound_noise(problem.geometry, problem.intensity.uncertainty / problem.intensity.std)
    said = restorer.trained.outside(Acquisition.of(problem.geometry), noise)
    if not said:
        return ()
    text = (
        f"the restorer was not trained for such a series: {'; '.join(said)}. Its start may mislead "
        "the iterations; start: zero does without it"
    )
    return (Finding("prior", 1, (), text),)
