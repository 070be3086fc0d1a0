"""Random geometries stay within what the recipe says of them."""

import numpy as np

from ddgm_dist.core.geometry import MAX_ANGLE_DEG
from ddgm_dist.training.acquisitions import TRAINED_FOR, draw_acquisition, draw_noise


def test_geometries_are_within_bounds_and_varied() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_acquisition(rng) for _ in range(300)]
    low, high = TRAINED_FOR["thickness"]
    assert all(low <= a.thickness <= high for a in drawn)
    assert all(max(map(abs, a.angles_deg)) <= 80 < MAX_ANGLE_DEG for a in drawn)
    assert min(len(a.angles_deg) for a in drawn) >= 8
    assert max(len(a.angles_deg) for a in drawn) <= 220
    middles = [abs(a.angles_deg[0] + a.angles_deg[-1]) for a in drawn]
    assert 0.1 < np.mean([m > 5 for m in middles]) < 0.5
    steps = [np.diff(a.angles_deg) for a in drawn]
    assert 0.2 < np.mean([np.ptp(s) > 0.01 for s in steps]) < 0.7
    low, high = TRAINED_FOR["gap_deg"]
    assert max(s.max() for s in steps) <= high * 1.1
    low, high = TRAINED_FOR["middle_deg"]
    assert max(middles) / 2 <= high
    assert draw_acquisition(rng, 77).thickness == 77


def test_noise_is_within_bounds() -> None:
    rng = np.random.default_rng(0)
    noises = [draw_noise(rng) for _ in range(200)]
    low, high = TRAINED_FOR["noise"]
    assert low <= min(noises) < 2 * low
    assert high / 2 < max(noises) <= high
