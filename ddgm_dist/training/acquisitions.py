"""Random geometries of tilt series, as microscopes and beamlines record them."""

from __future__ import annotations

import numpy as np

from ddgm_dist.algorithm.restorer import Acquisition

__all__ = ["TRAINED_FOR", "draw_acquisition", "draw_noise"]

# What a restorer is trained for: largest angle and step in degrees, thickness in voxels, noise as a
# fraction of the projections' standard deviation.
TRAINED_FOR: dict[str, tuple[float, float]] = {
    "max_angle_deg": (40.0, 78.0),
    "step_deg": (0.8, 6.5),
    "thickness": (32, 256),
    "noise": (0.01, 2.0),
    # As `draw_acquisition` moves the middle, and leaves out up to three neighbouring views.
    "middle_deg": (0.0, 15.0),
    "gap_deg": (0.0, 26.0),
}
_FEWEST = 11


def draw_acquisition(rng: np.random.Generator, thickness: int | None = None) -> Acquisition:
    """Draw a geometry.

    Most are even from minus to plus the same angle. The rest are asymmetric, have steps that fall
    with the cosine, or lack some views.

    Parameters
    ----------
    rng
        Generator, which is advanced.
    thickness
        Thickness; random when None.
    """
    if thickness is None:
        thickness = round(float(np.exp(rng.uniform(*np.log(TRAINED_FOR["thickness"])))))
    half = float(rng.uniform(*TRAINED_FOR["max_angle_deg"]))
    low, high = -half, half
    if rng.random() < 0.3:
        middle = rng.uniform(-15, 15)
        low, high = max(low + middle, -80.0), min(high + middle, 80.0)
    step = float(np.exp(rng.uniform(*np.log(TRAINED_FOR["step_deg"]))))
    count = max(_FEWEST, round((high - low) / step) + 1)
    angles = np.linspace(low, high, count)
    kind = rng.random()
    if kind < 0.1:  # steps in proportion to the cosine
        sines = np.linspace(np.sin(np.radians(low)), np.sin(np.radians(high)), count)
        angles = np.degrees(np.arcsin(sines))
    elif kind < 0.2:
        angles = angles + rng.uniform(-0.3, 0.3, count) * step
    if rng.random() < 0.3 and count > _FEWEST + 3:
        missing = rng.choice(count, int(rng.integers(1, 4)), replace=False)
        if rng.random() < 0.3:
            missing = missing.min() + np.arange(len(missing))
        angles = np.delete(angles, missing[missing < count])
    return Acquisition(tuple(float(a) for a in np.clip(angles, -80, 80)), thickness)


def draw_noise(rng: np.random.Generator) -> float:
    """Draw a noise, as a fraction of the projections' standard deviation."""
    return float(np.exp(rng.uniform(*np.log(TRAINED_FOR["noise"]))))
