"""Laws of total variation by Chambolle-Pock."""

import pytest
import torch

from ddgm_dist.baselines.cgls import cgls
from ddgm_dist.baselines.least_squares import misfit
from ddgm_dist.baselines.total_variation import (
    difference,
    difference_adjoint,
    gap,
    total_variation,
    variation,
)
from ddgm_dist.errors import InputError
from tests.adjoint import valid_adjoint


def objective(toy, x, lam):
    return misfit(toy.operator, toy.data, x) + lam * variation(x)


def test_differences_have_their_adjoint():
    generator = torch.Generator().manual_seed(0)
    x, q = torch.randn(5, 2, 7, generator=generator), torch.randn(2, 5, 2, 7, generator=generator)
    assert valid_adjoint(difference, difference_adjoint, x, q)
    assert float(difference(torch.ones(5, 2, 7)).abs().max()) == 0


def test_a_step_within_a_slice_has_its_height_times_its_length():
    x = torch.zeros(6, 2, 8)
    x[:, :, 3:] = 2.5
    assert variation(x) == pytest.approx(6 * 2 * 2.5)
    corner = torch.zeros(6, 1, 8)
    corner[2, 0, 3] = 1  # isotropic: both differences of one voxel at once
    assert variation(corner) == pytest.approx(2 + 2**0.5)
    rows = torch.arange(4.0)[None, :, None].expand(6, 4, 8)
    assert variation(rows) == 0, "rows are slices of their own"


@pytest.mark.parametrize(("lam", "steps"), [(0.3, 200), (5.0, 700)])
def test_the_gap_closes(toy, lam, steps):
    [(_, state)] = total_variation(toy.operator, toy.data, [steps], lam)
    value = objective(toy, state.x, lam)
    assert float(state.q.norm(dim=0).max()) <= lam * (1 + 1e-5)
    assert 0 <= gap(toy.operator, toy.data, state, lam) < 1e-4 * value


def test_the_gap_bounds_what_is_missing(whole):
    lam = 2.0
    states = [s for _, s in total_variation(whole.operator, whole.data, [3, 10, 40, 800], lam)]
    best = objective(whole, states[-1].x, lam)
    for state in states[:-1]:
        missing = objective(whole, state.x, lam) - best
        assert missing <= gap(whole.operator, whole.data, state, lam) + 1e-5 * best
    generator = torch.Generator().manual_seed(5)
    for size in (1e-2, 1e-1, 1.0):
        other = states[-1].x + size * torch.randn(whole.truth.shape, generator=generator)
        assert objective(whole, other, lam) > best * (1 - 1e-5)


def test_without_weight_it_is_least_squares(toy):
    [(_, state)] = total_variation(toy.operator, toy.data, [100], 0.0, inner=20)
    [(_, x)] = cgls(toy.operator, toy.data, [300])
    energy = float(toy.data.stretched.square().sum())
    error = toy.data.measured * toy.operator.A_linear(state.x - x)
    assert float(error.square().sum()) < 1e-5 * energy
    assert float(state.q.abs().max()) == 0


def test_with_all_weight_it_is_the_constant_that_fits_best(toy):
    [(_, state)] = total_variation(toy.operator, toy.data, [150], 1e4, tau=0.003)
    for row in range(2):
        SA, Sb = toy.masked(row)
        ones = SA.sum(dim=1)
        level = float(ones @ Sb / (ones @ ones))
        expected = torch.full_like(state.x[:, row], level)
        assert torch.allclose(state.x[:, row], expected, atol=1e-3)


def test_the_primal_step_does_not_change_the_answer(whole):
    a, b = (
        next(total_variation(whole.operator, whole.data, [600], 3.0, tau=tau))[1].x
        for tau in (0.05, 0.3)
    )
    assert float((a - b).norm()) < 2e-3 * float(a.norm())


def test_weights_that_cannot_be_are_refused(whole):
    for argument, values in {"lam": (-1.0, 1.0), "tau": (1.0, 0.0)}.items():
        with pytest.raises(InputError) as caught:
            next(total_variation(whole.operator, whole.data, [1], values[0], tau=values[1]))
        assert caught.value.argument == argument
