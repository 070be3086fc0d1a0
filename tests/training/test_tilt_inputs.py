"""Batches of a restorer's training."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from ddgm_dist.algorithm.restorer import DARK, Acquisition
from ddgm_dist.training.blocks import BlockSampler
from ddgm_dist.training.patches import PatchSampler
from ddgm_dist.training.tilt_inputs import TiltInputs


@pytest.fixture(scope="module")
def inputs() -> TiltInputs:
    volume = gaussian_filter(np.random.default_rng(0).standard_normal((64, 64, 64)), 1.5)
    sampler = PatchSampler([volume.astype(np.float32)], size=32)
    return TiltInputs(BlockSampler(sampler), 1, 8, columns=48, pixels=4 * 32 * 48)


def test_the_step_decides(inputs: TiltInputs) -> None:
    first, again, other = inputs.draw(3), inputs.draw(3), inputs.draw(4)
    assert torch.equal(first.images, again.images)
    assert first.acquisition == again.acquisition
    assert first.acquisition != other.acquisition


def test_shapes_and_padding(inputs: TiltInputs) -> None:
    for step in range(12):
        batch = inputs.draw(step)
        count, depth, width = batch.clean.shape
        assert batch.images.shape == (count, 3, depth, width)
        assert batch.noise.shape == (count,)
        assert depth % 8 == width % 8 == 0
        assert width > 48
        thickness = batch.acquisition.thickness
        assert depth - thickness < 8
        for tensor in (batch.clean, batch.coverage, batch.images):
            assert not tensor[..., thickness:, :].any()
            assert bool(torch.isfinite(tensor).all())
            assert batch.window(tensor).shape[-1] == 48
        seen = batch.coverage[:, :thickness]
        assert float(seen.min()) >= DARK
        assert float(seen.max()) <= 1
        assert bool((seen == 1).all()) == batch.series.periodic
        assert bool((batch.noise > 0).all())


def test_windows_reach_beyond_the_ends_of_blocks(inputs: TiltInputs) -> None:
    """As those of tiles do: there is padding, which is told."""
    padded = 0
    for step in range(40):
        batch = inputs.draw(step)
        first, stop = batch.part
        width = batch.clean.shape[-1]
        outside = max(0, -first) + max(0, stop - width)
        assert outside <= 64
        empty = (batch.window(batch.coverage) == 0).all(dim=1)
        assert bool((empty.sum(dim=1) == outside).all())
        padded += outside > 0
        assert outside == 0 or not batch.series.periodic
    assert padded > 1


def test_estimates_are_data_steps_of_the_batch_s_rows(inputs: TiltInputs) -> None:
    acquisition = Acquisition(tuple(float(a) for a in np.linspace(-60, 60, 41)), 20)
    for ends in (False, True):
        batch = inputs.simulate(
            np.random.default_rng(1), acquisition, [0.01] * 2, ends=ends, augment=False
        )
        # The truth, with noise: the step takes off what the data contradict.
        wrong = batch.clean + 0.3 * torch.randn(batch.clean.shape) * (batch.coverage > 0)
        estimates = batch.estimates(wrong)
        assert torch.equal(estimates[:, 0], wrong)
        before, after = ((e - batch.clean)[..., :20, :] for e in (wrong, estimates[:, 1]))
        seen = batch.coverage[:, :20] > 0.95
        assert float(after[seen].square().mean()) < 0.7 * float(before[seen].square().mean())
        assert not estimates[..., 20:, :].any()


def test_well_measured_rows_come_back(inputs: TiltInputs) -> None:
    acquisition = Acquisition(tuple(float(a) for a in np.linspace(-80, 80, 161)), 32)
    batch = inputs.simulate(np.random.default_rng(0), acquisition, [0.01] * 2, augment=False)

    def error(row: int) -> float:
        return float((batch.images[:, row] - batch.clean).square().mean())

    variance = float(batch.clean.var())
    assert error(1) < 0.2 * variance
    assert min(error(0), error(2)) > 0.25 * variance  # the neighbours are other rows


def test_noise_makes_inverses_worse(inputs: TiltInputs) -> None:
    acquisition = Acquisition(tuple(float(a) for a in np.linspace(-60, 60, 41)), 32)
    errors = []
    for noise in (0.02, 0.3, 2.0):
        batch = inputs.simulate(np.random.default_rng(0), acquisition, [noise] * 2, augment=False)
        errors.append(float((batch.images[:, 1] - batch.clean).square().mean()))
    assert errors == sorted(errors)
    assert errors[2] > 1.5 * errors[0]
