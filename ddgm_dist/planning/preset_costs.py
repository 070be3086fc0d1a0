"""The cost of each preset in calls of the networks and of the operator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ddgm_dist.algorithm.schedule import IMPUTED_EVERY
from ddgm_dist.operators.slab.inverse import STEPS
from ddgm_dist.planning.config import ProblemConfig
from ddgm_dist.planning.presets import PRESETS

__all__ = ["PresetCost", "preset_costs", "to_table"]


@dataclass(frozen=True)
class PresetCost:
    """Calls for one block of rows and one window of columns, over all samples.

    Attributes
    ----------
    name, purpose
        The preset.
    denoiser_calls, restorer_calls
        Calls of the networks.
    operator_pairs
        Projections of the block, each with a backprojection; at most, for the noise-aware rule may
        take fewer steps.
    samples
        Number of volumes.
    """

    name: str
    purpose: str
    denoiser_calls: int
    restorer_calls: int
    operator_pairs: int
    samples: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "denoiser_calls": self.denoiser_calls,
            "restorer_calls": self.restorer_calls,
            "operator_pairs": self.operator_pairs,
            "samples": self.samples,
        }


def preset_costs() -> tuple[PresetCost, ...]:
    """The costs of all presets."""
    found = []
    for name, preset in PRESETS.items():
        config = ProblemConfig(**preset.values)
        samples = config.samples
        calls = config.restorer_calls * config.starts
        # Each begins with one pair, for the right-hand side.
        inverse = 1 + STEPS[-1][1]
        exact = config.step_rule == "proximal"
        pairs = config.N * (inverse if exact else math.ceil(config.K / IMPUTED_EVERY))
        pairs += calls * inverse
        found.append(
            PresetCost(
                name=name,
                purpose=preset.purpose,
                denoiser_calls=samples * config.N,
                restorer_calls=samples * calls,
                operator_pairs=samples * pairs,
                samples=samples,
            )
        )
    return tuple(found)


def to_table(costs: Sequence[PresetCost], *, purposes: bool = False) -> str:
    """The costs as aligned columns; with what the presets are for, or without."""
    lines = [f"{'preset':<9}{'denoiser':>9}{'restorer':>9}{'operator':>9}{'samples':>8}"]
    lines += [
        f"{c.name:<9}{c.denoiser_calls:>9}{c.restorer_calls:>9}{c.operator_pairs:>9}{c.samples:>8}"
        f"{'  ' + c.purpose if purposes else ''}"
        for c in costs
    ]
    return "\n".join(lines)
