"""Laws of DDRM."""

import pytest
import torch

from ddgm_dist.algorithm.schedule import noise_levels
from ddgm_dist.baselines.ddrm import ddrm, singular_values
from ddgm_dist.errors import InputError
from ddgm_dist.operators.slab.operator import SlabData

LEVELS = noise_levels("exponential", 3.0, 0.05, 8)


def poor(x, sigma, n):
    return 0.3 * x + 0.2


def test_without_noise_what_is_seen_is_exact_whatever_the_prior(whole, seen, noise_of):
    operator, truth = whole.operator, whole.truth
    x = ddrm(
        operator,
        whole.noiseless,
        denoise=poor,
        noise=noise_of(truth),
        sigma=LEVELS,
        sigma_y=0.0,
        cut=0.05,
    )
    error = seen(operator, x - truth, 0.05)
    assert float(error.norm()) < 1e-4 * float(truth.norm())
    assert float((x - truth).norm()) > 0.1 * float(truth.norm()), "some modes are not seen"


def test_without_noise_it_is_exact_where_the_prior_knows_the_rest(whole, seen, noise_of):
    operator, truth = whole.operator, whole.truth

    def denoise(x, sigma, n):
        return truth + seen(operator, 0.3 * x, 0.05)

    x = ddrm(
        operator,
        whole.noiseless,
        denoise=denoise,
        noise=noise_of(truth),
        sigma=LEVELS,
        sigma_y=0.0,
        cut=0.05,
    )
    assert float((x - truth).norm()) < 1e-4 * float(truth.norm())


@pytest.mark.parametrize("eta", [0.0, 0.85, 1.0])
@pytest.mark.parametrize("eta_b", [0.4, 1.0])
def test_every_state_has_its_noise_level_in_every_mode(crowd, noise_of, eta, eta_b):
    """The marginals of Kawar et al., proposition 3.1: with a perfect denoiser, noise of sigma_t."""
    operator, truth = crowd
    sigma_y, cut = 1.5, 0.02
    clutter = torch.randn((9, 300, 16), generator=torch.Generator().manual_seed(9))
    data = SlabData(operator.A(truth) + sigma_y * clutter, torch.ones(1, 1, 1))
    s = singular_values(operator, cut)
    ratios = []

    def denoise(x, sigma, n):
        modes = operator.to_modes(x - truth) / sigma
        # Real and imaginary parts share it; at the first and last frequency one has it all.
        variance = modes.square().mean(dim=2) * 2
        noisy = (s > 0) & (sigma * s < sigma_y)
        regimes = [r for r in (s == 0, noisy, (s > 0) & ~noisy) if n and r.sum() >= 3]
        ratios.extend(float(variance[regime].mean()) for regime in regimes)
        return truth

    def from_truth(n):
        """Noise; modes that do not start from the data start about the truth, not about 0."""
        late = (2.0 * s < sigma_y)[:, :, None]
        about = operator.from_modes(operator.to_modes(truth) * late) / 2.0
        return noise_of(truth)(n) + (0 if n else about)

    ddrm(
        operator,
        data,
        denoise=denoise,
        noise=from_truth,
        sigma=(2.0, 1.0, 0.5, 0.1),
        sigma_y=sigma_y,
        eta=eta,
        eta_b=eta_b,
        cut=cut,
    )
    assert len(ratios) >= 7
    assert ratios == pytest.approx([1] * len(ratios), abs=0.05)


@pytest.mark.parametrize("sigma_t", [0.3, 1.0])
def test_each_mode_is_pulled_to_the_data_as_its_noise_allows(whole, sigma_t):
    """The means with x_theta = 0 and no noise: what is left is the weight of y in every mode."""
    operator, sigma_y, eta, eta_b = whole.operator, 1.5, 0.6, 0.7
    s = singular_values(operator, 0.1)
    states = []

    def denoise(x, sigma, n):
        states.append(x)
        return torch.zeros_like(x)

    ddrm(
        operator,
        whole.noiseless,
        denoise=denoise,
        noise=lambda n: torch.zeros_like(whole.truth),
        sigma=(2.0, sigma_t),
        sigma_y=sigma_y,
        eta=eta,
        eta_b=eta_b,
        cut=0.1,
    )
    seen = s > 0
    y = operator.to_modes(whole.truth)[seen].double()
    start, then = (operator.to_modes(x).double() for x in states)
    first = (2.0 * s >= sigma_y).double()[seen][:, None]
    assert float((start[seen] - first * y).norm()) < 1e-4 * float(y.norm())
    weak = (1 - eta**2) ** 0.5 * sigma_t * s / sigma_y
    weight = torch.where(sigma_t * s >= sigma_y, eta_b, weak)[seen][:, None]
    assert 0 < int((weight == eta_b).sum()) < len(weight), "both kinds of modes"
    assert float((then[seen] - weight * y).norm()) < 1e-4 * float(y.norm())
    assert float(then[~seen].norm()) < 1e-4 * float(y.norm())


def test_what_is_not_seen_starts_about_a_given_estimate(whole, seen, noise_of):
    operator, cut, states = whole.operator, 0.2, []
    x_1 = 2.0 * whole.truth

    def denoise(x, sigma, n):
        states.append(x)
        return x

    ddrm(
        operator,
        whole.noiseless,
        denoise=denoise,
        noise=lambda n: torch.zeros_like(x_1),
        sigma=(2.0,),
        sigma_y=0.0,
        cut=cut,
        start=x_1,
    )
    expected = seen(operator, whole.truth - x_1, cut) + x_1
    assert float((states[0] - expected).norm()) < 1e-3 * float(expected.norm())


def test_with_samples_missing_it_still_explains_those_measured(toy, noise_of):
    def residual(x):
        return float(toy.operator.residual(x, toy.noiseless).norm())

    x = ddrm(
        toy.operator,
        toy.noiseless,
        denoise=lambda x, sigma, n: x,
        noise=noise_of(toy.truth),
        sigma=noise_levels("exponential", 2.0, 1e-3, 60),
        sigma_y=0.05,
        cut=0.05,
    )
    assert residual(x) < 0.1 * residual(torch.zeros_like(x))


def test_values_that_cannot_work_are_refused(whole, noise_of):
    good = {"sigma": (1.0,), "sigma_y": 1.0, "eta": 0.5, "eta_b": 0.5, "cut": 0.1}
    for wrong in ({"sigma": ()}, {"sigma_y": -1.0}, {"eta": 2.0}, {"eta_b": -1.0}, {"cut": 0.0}):
        with pytest.raises(InputError) as caught:
            ddrm(
                whole.operator,
                whole.data,
                denoise=poor,
                noise=noise_of(whole.truth),
                **(good | wrong),
            )
        assert caught.value.argument == next(iter(wrong))
