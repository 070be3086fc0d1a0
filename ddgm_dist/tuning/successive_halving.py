"""Choice of the candidates that are tried on more blocks, and of the best: arithmetic on scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Compared", "Estimate", "Round", "choose", "compare", "count_calls", "rounds"]

# Candidates that are compared on all blocks, at least, the given settings aside.
FINALISTS = 3
# What a cheaper candidate may cost in error, as a fraction of it, with one standard error on top.
INDIFFERENT = 0.02


@dataclass(frozen=True)
class Estimate:
    """A weighted sum of means of samples: one block's estimated error.

    Attributes
    ----------
    weights
        Weight of each group of samples.
    groups
        The samples: errors by single tilts.
    """

    weights: tuple[float, ...]
    groups: tuple[tuple[float, ...], ...]

    @property
    def mean(self) -> float:
        """The estimated mean squared error."""
        return sum(
            w * sum(g) / len(g) for w, g in zip(self.weights, self.groups, strict=True) if w > 0
        )

    @property
    def variance(self) -> float:
        """Variance of the estimate, by the scatter within the groups (none in a group of one)."""
        return sum(
            w * w * _mean_and_variance(g)[1]
            for w, g in zip(self.weights, self.groups, strict=True)
            if len(g) > 1
        )

    def minus(self, other: Estimate) -> Estimate:
        """Sample by sample; what is not finite there makes it infinite."""
        if not (math.isfinite(self.mean) and math.isfinite(other.mean)):
            difference = self.mean - other.mean  # of two infinities: NaN
            return Estimate((1.0,), ((difference,),))
        pairs = zip(self.groups, other.groups, strict=True)
        groups = tuple(tuple(a - b for a, b in zip(p, q, strict=True)) for p, q in pairs)
        return Estimate(self.weights, groups)


@dataclass(frozen=True)
class Round:
    """One round of successive halving.

    Attributes
    ----------
    blocks
        Blocks that are solved in this round.
    candidates
        Number of candidates that take part.
    """

    blocks: range
    candidates: int


@dataclass(frozen=True)
class Compared:
    """A candidate against the chosen one.

    Attributes
    ----------
    index
        Index of the candidate.
    blocks
        Number of blocks that it was tried on.
    error
        Mean estimate of the mean squared error over them, a fraction of the volume's variance.
    difference, deviation
        Mean over the blocks of the difference to the chosen one, and its standard error
        (:func:`paired`).
    """

    index: int
    blocks: int
    error: float
    difference: float
    deviation: float


def rounds(candidates: int, blocks: int) -> list[Round]:
    """Successive halving: all candidates on one block, the better half on two, and so on.

    Jamieson & Talwalkar 2016 (AISTATS). The first candidate (the given settings) is in every round.
    """
    found, done = [], 0
    while done < blocks:
        stop = min(blocks, max(1, 2 * done))
        found.append(Round(range(done, stop), candidates))
        done = stop
        candidates = min(candidates, max(FINALISTS + 1, math.ceil(candidates / 2)))
    return found


def paired(own: Sequence[Estimate], other: Sequence[Estimate]) -> tuple[float, float]:
    """Mean difference over the blocks that both were tried on, and its standard error.

    Differences are taken tilt by tilt: what makes a block hard for all does not count, nor does most of
    the held-out tilts' noise. The standard error is the larger of two: one from the scatter of blocks,
    one from that of tilts within blocks. A few blocks alone would estimate it badly. It is NaN if
    neither is known.
    """
    differences = [a.minus(b) for a, b in zip(own, other, strict=False)]
    means = [d.mean for d in differences]
    mean, between = _mean_and_variance(means)
    within = sum(d.variance for d in differences) / len(differences) ** 2
    known = [v for v in (between, within) if math.isfinite(v)]
    tilts = max(len(g) for d in differences for g in d.groups) > 1
    if not math.isfinite(mean) or (len(means) < 2 and not tilts):
        return mean, math.nan
    return mean, math.sqrt(max(known))


def compare(errors: Mapping[int, Sequence[Estimate]], chosen: int) -> list[Compared]:
    """All candidates against the chosen one, the most tried and then the best first.

    Parameters
    ----------
    errors
        Errors by candidate, per block; of the first so many blocks.
    chosen
        Tried on as many blocks as any.
    """
    found = []
    for index, own in errors.items():
        error = sum(e.mean for e in own) / len(own)
        found.append(Compared(index, len(own), error, *paired(own, errors[chosen])))
    return sorted(found, key=lambda c: (-c.blocks, c.error, c.index))


def choose(errors: Mapping[int, Sequence[Estimate]], calls: Sequence[int]) -> int:
    """The candidate of least error among those tried on most blocks, unless that may be chance.

    The given settings stay if what is best beats them by no more than one standard error of the paired
    difference. (Taking the plainest model within one standard error of the best is the rule
    of Breiman et al. 1984, "Classification and Regression Trees".) Then a candidate of fewer calls
    replaces the chosen one if the difference plus its standard error is at most 2 % of the error.

    Parameters
    ----------
    errors
        Errors by candidate, per block; candidate 0 is the given settings.
    calls
        Network calls of each candidate.
    """
    most = max(len(own) for own in errors.values())
    final = {i: sum(e.mean for e in own) / most for i, own in errors.items() if len(own) == most}
    chosen = min(final, key=lambda i: (final[i], i))
    if 0 in final:
        gain, deviation = paired(errors[0], errors[chosen])
        if gain <= 0 or gain <= deviation:
            chosen = 0
    limit = INDIFFERENT * abs(final[chosen])
    cheaper = []
    for i in final:
        loss, deviation = paired(errors[i], errors[chosen])
        if calls[i] < calls[chosen] and loss + deviation <= limit:
            cheaper.append(i)
    return min(cheaper, key=lambda i: (calls[i], final[i], i), default=chosen)


def _mean_and_variance(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and the variance of it; that is NaN for one value."""
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, math.nan
    return mean, sum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values)


def count_calls(calls: Sequence[int], blocks: int, *, first: int = 0) -> int:
    """Calls in the rounds from ``first`` on and in the halves, as if all candidates made the mean.

    Parameters
    ----------
    calls
        Calls of each candidate for one block.
    blocks
        Blocks of the last round.
    first
        Number of the first round that counts.
    """
    plan = rounds(len(calls), blocks)
    runs = sum(r.candidates * len(r.blocks) for r in plan[first:]) + 2 * plan[-1].candidates
    return round(runs * sum(calls) / len(calls))
