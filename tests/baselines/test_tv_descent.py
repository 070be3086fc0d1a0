"""Total variation by a gradient alone."""

import pytest
import torch

from ddgm_dist.baselines.total_variation import gap, total_variation, variation
from ddgm_dist.baselines.tv_descent import tv_descent
from ddgm_dist.errors import InputError
from ddgm_dist.operators.slab.basis import norm_squared


def objective(operator, data, x, lam: float) -> float:
    return float(operator.residual(x, data).double().square().sum()) / 2 + lam * variation(x)


@pytest.mark.parametrize("lam", [0.5, 5.0])
def test_it_agrees_with_the_proximal_method(whole, lam: float):
    operator, data = whole.operator, whole.data
    *_, (_, expected) = total_variation(operator, data, [150], lam)
    *_, (_, got) = tv_descent(
        lambda x: -operator.T(operator.residual(x, data)),
        torch.zeros_like(whole.truth),
        [600],
        lam,
        norm_squared(operator.geometry),
    )
    best = objective(operator, data, expected.x, lam)
    assert objective(operator, data, got.x, lam) == pytest.approx(best, rel=1e-3)
    assert gap(operator, data, got, lam) < 0.02 * best
    assert float(got.q.norm(dim=0).max()) <= lam * (1 + 1e-5)


def test_states_come_after_their_steps():
    x, target = torch.zeros(4, 1, 5), torch.arange(20.0).reshape(4, 1, 5)
    found = dict(tv_descent(lambda x: x - target, x, [1, 3], 0.1, 1.0))
    again = dict(tv_descent(lambda x: x - target, x, [3], 0.1, 1.0))
    assert list(found) == [1, 3]
    assert torch.equal(found[3].x, again[3].x)
    assert not torch.equal(found[1].x, found[3].x)


@pytest.mark.parametrize(("lam", "lipschitz", "name"), [(-1, 1, "lam"), (1, 0, "lipschitz")])
def test_weights_that_make_no_sense_are_refused(lam: float, lipschitz: float, name: str):
    with pytest.raises(InputError, match=name):
        next(tv_descent(lambda x: x, torch.zeros(2, 1, 2), [1], lam, lipschitz))
