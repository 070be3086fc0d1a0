"""Simulated masks."""

import pytest
import torch

from ddgm_dist.errors import InputError
from ddgm_dist.operators.fourier_masks import cartesian_mask, variable_density_mask


@pytest.mark.parametrize("acceleration", [1, 2, 3.7, 8])
def test_lines_are_whole_and_counted(acceleration: float):
    mask = cartesian_mask((6, 50), acceleration)
    assert torch.equal(mask, mask[:1].expand(6, 50))
    assert float(mask[0].sum()) == round(50 / acceleration)
    assert bool(torch.fft.fftshift(mask[0])[23:27].all()), "the centre is measured for certain"


@pytest.mark.parametrize("acceleration", [1, 2, 3.7, 8])
def test_points_are_counted(acceleration: float):
    mask = variable_density_mask((40, 50), acceleration)
    assert float(mask.sum()) == round(2000 / acceleration)
    assert bool(torch.fft.fftshift(mask)[18:22, 23:27].all())


@pytest.mark.parametrize("draw", [cartesian_mask, variable_density_mask])
def test_the_seed_is_all_that_chance_is(draw):
    assert torch.equal(draw((32, 64), 4, seed=1), draw((32, 64), 4, seed=1))
    assert not torch.equal(draw((32, 64), 4, seed=1), draw((32, 64), 4, seed=2))


@pytest.mark.parametrize("draw", [cartesian_mask, variable_density_mask])
def test_low_frequencies_are_denser(draw):
    def inner_share(density: float) -> float:
        masks = torch.stack([draw((32, 64), 4, density=density, seed=s) for s in range(30)])
        return float(torch.fft.fftshift(masks.mean(0))[:, 16:48].sum() / masks.mean(0).sum())

    assert inner_share(0.0) + 0.1 < inner_share(4.0)


@pytest.mark.parametrize("draw", [cartesian_mask, variable_density_mask])
def test_what_cannot_be_drawn_is_refused(draw):
    with pytest.raises(InputError, match="acceleration"):
        draw((8, 8), 0.5)
    with pytest.raises(InputError, match="more is measured for certain"):
        draw((8, 64), 8, centre=0.5)
    with pytest.raises(InputError, match="centre"):
        draw((8, 64), 8, centre=-0.5)
