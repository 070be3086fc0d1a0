"""Laws of conjugate gradients."""

from itertools import pairwise

import torch

from ddgm_dist.baselines.cgls import cgls
from ddgm_dist.baselines.least_squares import misfit


def test_it_ends_at_the_least_squares_solution(toy):
    [(_, x)] = cgls(toy.operator, toy.data, [300])
    for row in range(2):
        SA, Sb = toy.masked(row)
        # Modes that float32 cannot tell from unseen ones are cut from the reference, and compared
        # where they matter: in the projections.
        expected = torch.linalg.pinv(SA, rtol=1e-6) @ Sb
        got = toy.rows(x)[:, row]
        # float32 leaves 0.9e-4 to 1.1e-4, as the processor rounds.
        assert float((SA @ (got - expected)).norm()) < 3e-4 * float(Sb.norm())
        strong = torch.linalg.pinv(SA, rtol=3e-2) @ SA
        assert float((strong @ (got - expected)).norm()) < 1e-3 * float(expected.norm())


def test_the_masked_residual_never_rises(toy):
    errors = [misfit(toy.operator, toy.data, x) for _, x in cgls(toy.operator, toy.data, range(60))]
    assert max((b - a) / errors[0] for a, b in pairwise(errors)) < 1e-6
    assert errors[-1] < 0.05 * errors[0]


def test_stopping_does_not_change_where_it_goes(toy):
    *_, (_, stopped) = cgls(toy.operator, toy.data, [0, 3, 3, 7])
    [(_, straight)] = cgls(toy.operator, toy.data, [7])
    assert torch.equal(stopped, straight)


def test_it_stays_where_nothing_pulls(whole):
    data = whole.operator, type(whole.data)(0 * whole.data.stretched, whole.data.measured)
    [(_, x)] = cgls(*data, [5])
    assert torch.equal(x, torch.zeros_like(x))
