"""The baselines against DeepInverse's (https://deepinv.github.io), on a small slab.

    pip install -e '.[dev,compare]'
    pytest tests/baselines/test_against_deepinv.py -rP      # prints the differences

Theirs has the slab operator by its singular vectors (of the dense matrix, in float64), and three rows
as a batch of three images. Both have the same denoiser, a Wiener filter for a given sigma. The tests
compare every image that the denoiser gets, or the estimate after the same steps. Where the packages
write a method differently, the test converts between them. The images are small enough that theirs
never clips.

*Whole*: the columns are the operator's whole period and every ray is measured. *Masked*: a field cut
out of a wider specimen; rays that cross its ends do not count.

Not compared:

- SIRT under a mask. DeepInverse divides by the column sums of the masked matrix, lifted to 1e-8. The
  slab's kernel is band-limited, so these ring about zero (36 of 744 are not positive here) and the
  iteration diverges. Ours are those of the whole period: see `ddgm_dist.baselines.sirt`.
- Weighted back-projection. DeepInverse has it as a method of its own projectors (`Tomography.fbp`): a
  square image, turned by bilinear interpolation, and one weight for all tilts. It takes no operator,
  no weights by angle, and no slab.
- `tv_descent`. DeepInverse has no Condat-Vu iteration. Its objective is that of `total_variation`.
"""

import itertools
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import pytest
import torch
from torch import Tensor

from ddgm_dist.algorithm.schedule import noise_levels
from ddgm_dist.baselines.cgls import cgls
from ddgm_dist.baselines.ddrm import ddrm
from ddgm_dist.baselines.diffpir import diffpir
from ddgm_dist.baselines.dps import dps
from ddgm_dist.baselines.gradient import gradient_descent
from ddgm_dist.baselines.least_squares import proximal
from ddgm_dist.baselines.plug_and_play import dpir, pnp_pgd
from ddgm_dist.baselines.sirt import sirt
from ddgm_dist.baselines.total_variation import total_variation, variation
from ddgm_dist.core.geometry import Geometry
from ddgm_dist.operators.slab.basis import norm_squared
from ddgm_dist.operators.slab.operator import SlabData, SlabOperator

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its own and its dependencies', at import
    deepinv = pytest.importorskip("deepinv", reason="pip install -e '.[compare]'")

L2 = deepinv.optim.data_fidelity.L2
DEEP, ROWS, FIELD = 12, 3, 40
GEOMETRY = Geometry(tuple(float(a) for a in range(-60, 61, 15)), DEEP, ROWS, FIELD)
ETA = 1 / norm_squared(GEOMETRY)
SIGMA_Y = 0.1  # about 10 % of the projections


def images(block: Tensor) -> Tensor:
    """``(n, rows, m)`` to a batch of rows, float64 ``(rows, 1, n, m)``."""
    return block.permute(1, 0, 2)[:, None].double()


def block(batch: Tensor) -> Tensor:
    """Inverse of :func:`images`, float32."""
    return batch[:, 0].permute(1, 0, 2).float()


def wiener(x: Tensor, sigma: float) -> Tensor:
    """The denoiser of both: optimal for Gaussian images of falling spectrum, over the last two axes."""
    f = torch.fft.fftfreq(x.shape[-2])[:, None] ** 2 + torch.fft.rfftfreq(x.shape[-1]) ** 2
    P = 0.05 / (1 + 200 * f)
    return torch.fft.irfft2(torch.fft.rfft2(x) * (P / (P + sigma**2)), s=x.shape[-2:])


class Seen:
    """The denoiser for ours, keeping what it was given and gave, as images."""

    def __init__(self) -> None:
        self.given: list[Tensor] = []
        self.gave: list[Tensor] = []

    def __call__(self, x: Tensor, sigma: float, n: int) -> Tensor:
        clean = block(wiener(images(x).float(), sigma))
        self.given.append(images(x.detach()))
        self.gave.append(images(clean.detach()))
        return clean


class Theirs(torch.nn.Module):
    """The denoiser for theirs, keeping the same; ``unit``: images are x in 0 ... 1, ours 2 x - 1."""

    def __init__(self, unit: bool = False) -> None:
        super().__init__()
        self.scale, self.offset = (2.0, -1.0) if unit else (1.0, 0.0)
        self.given: list[Tensor] = []

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        level = self.scale * float(torch.as_tensor(sigma).reshape(-1)[0])
        state = self.scale * x + self.offset
        self.given.append(state.detach().double())
        return (wiener(state, level) - self.offset) / self.scale


@dataclass
class Case:
    """One problem for both."""

    operator: SlabOperator
    data: SlabData
    truth: Tensor

    @cached_property
    def svd(self) -> tuple[Tensor, Tensor, Tensor]:
        """U, s, V^T of a row's ``S A``, float64; V is square, and U padded with columns of zeros."""
        n = DEEP * self.truth.shape[-1]
        unit = torch.eye(n).reshape(n, DEEP, -1).permute(1, 0, 2)
        SA = self.data.measured * self.operator.A_linear(unit)
        U, s, Vt = torch.linalg.svd(SA.permute(1, 0, 2).flatten(1).double().T)
        more = n - len(s)
        assert more >= 0
        return torch.nn.functional.pad(U, (0, more)), torch.nn.functional.pad(s, (0, more)), Vt

    @property
    def y(self) -> Tensor:
        return images(self.data.measured * self.data.stretched)

    @property
    def zero(self) -> Tensor:
        return torch.zeros_like(images(self.truth))

    def to_modes(self, x: Tensor) -> Tensor:
        """``V^T x``, of images, in their shape."""
        return (x.double().flatten(1) @ self.svd[2].T).reshape(x.shape)

    def physics(
        self, s: Tensor | None = None, noise: torch.nn.Module | None = None
    ) -> torch.nn.Module:
        U, values, Vt = self.svd
        x, y = self.zero.shape, self.y.shape
        return deepinv.physics.DecomposablePhysics(
            U=lambda c, **_: (c.flatten(1) @ U.T).reshape(y),
            U_adjoint=lambda y, **_: (y.double().flatten(1) @ U).reshape(x),
            V=lambda c, **_: (c.flatten(1) @ Vt).reshape(x),
            V_adjoint=lambda x, **_: self.to_modes(x),
            mask=(values if s is None else s).reshape(1, *x[1:]),
            noise_model=noise or deepinv.physics.ZeroNoise(),
        )

    def noise(self, n: int) -> Tensor:
        return torch.randn(self.truth.shape, generator=torch.Generator().manual_seed(100 + n))


def make(*, masked: bool) -> Case:
    operator = SlabOperator(GEOMETRY)
    if not masked:
        operator = SlabOperator(GEOMETRY, (0, operator.length))
    rng = torch.Generator().manual_seed(7)
    width = operator.columns[1] - operator.columns[0]
    x = torch.randn(DEEP, ROWS, width, generator=rng)
    truth = 3 * block(wiener(images(x), 0.3)).contiguous()
    S = torch.ones(1, 1, 1)
    if masked:
        S = operator.prepare(torch.zeros(GEOMETRY.tilts, ROWS, FIELD)).measured
    b = operator.A(truth)
    b = b + SIGMA_Y * torch.randn(b.shape, generator=rng)
    return Case(operator, SlabData(S * b, S), truth)


@pytest.fixture(scope="module")
def whole() -> Case:
    return make(masked=False)


@pytest.fixture(scope="module")
def masked() -> Case:
    case = make(masked=True)
    assert 0.2 < float(case.data.measured.mean()) < 0.8
    return case


@pytest.fixture(scope="module", params=["whole", "masked"])
def case(request: pytest.FixtureRequest) -> Case:
    return request.getfixturevalue(request.param)


def agree(what: str, ours: list[Tensor], theirs: list[Tensor], bound: float) -> None:
    """The largest difference of any pair, relative to ours, is below the bound."""
    assert len(ours) == len(theirs) > 0
    assert all(float(a.norm()) > 0 for a in ours)
    apart = max(
        float((a.double() - b.double()).norm() / a.double().norm())
        for a, b in zip(ours, theirs, strict=True)
    )
    print(f"{what}: {apart:.1e}")  # noqa: T201
    assert apart < bound


def exact(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    """Let our proximal map go on to what float32 gives; its default stops at 1e-5 of the gradient."""
    name = f"ddgm_dist.baselines.{module}.proximal"
    monkeypatch.setattr(name, partial(proximal, tolerance=1e-7))


def solve_dpir(case: Case, seen: Seen, inner: int) -> Tensor:
    """With DeepInverse's settings."""
    levels = noise_levels("exponential", 49 / 255, SIGMA_Y, 8)
    return dpir(case.operator, case.data, denoise=seen, sigma=levels, sigma_y=SIGMA_Y, inner=inner)


def drawn(monkeypatch: pytest.MonkeyPatch, noises: Iterator[Tensor]) -> None:
    """Let theirs draw the given noise in turn."""
    monkeypatch.setattr(torch, "randn_like", lambda _: next(noises))


def test_gradient_descent(case):
    steps = 50
    model = deepinv.optim.GD(data_fidelity=L2(), stepsize=ETA, max_iter=steps)
    theirs = model(case.y, case.physics(), init=case.zero)
    # In closed form where everything is measured; else imputed at every step.
    every = steps if case.operator.length == case.zero.shape[-1] else 1
    ((_, x),) = gradient_descent(case.operator, case.data, [steps], ETA, impute_every=every)
    agree(f"gradient descent, {steps} steps", [images(x)], [theirs], 1e-5)


def test_cgls(case):
    # Theirs solves the normal equations, ours least squares: the same iterates but for rounding, which
    # conjugate gradients amplify. (Ours and the same in float64 are 2e-6 apart after 9 steps, 1e-2
    # after 13.) The rows are one system (no `parallel_dim`), as ours takes them.
    steps = [1, 4, 8]
    physics = case.physics()
    theirs = [
        deepinv.optim.linear.conjugate_gradient(
            physics.A_adjoint_A,
            physics.A_adjoint(case.y),
            max_iter=k,
            tol=0.0,
            eps=0.0,
            parallel_dim=None,
        )
        for k in steps
    ]
    ours = [images(x) for _, x in cgls(case.operator, case.data, steps)]
    agree("CGLS, 8 steps", ours, theirs, 1e-5)


def test_sirt(whole):
    model = deepinv.optim.SIRT(data_fidelity=L2(), stepsize=1.0, max_iter=50)
    theirs = model(whole.y, whole.physics(), init=whole.zero)
    ((_, x),) = sirt(whole.operator, whole.data, [50])
    agree("SIRT, 50 steps", [images(x)], [theirs], 1e-5)


def test_total_variation(case, monkeypatch):
    """Their Chambolle-Pock, split as ours is: the data's proximal map, the dual of the variation."""
    lam, steps = 0.02 / ETA, 50
    tau = 1 / (math.sqrt(8) * lam)
    prior = deepinv.optim.TVPrior()
    model = deepinv.optim.PDCP(
        K=prior.nabla,
        K_adjoint=prior.nabla_adjoint,
        data_fidelity=L2(),
        prior=deepinv.optim.L12Prior(),
        lambda_reg=lam,
        stepsize=tau,
        stepsize_dual=1 / (8 * tau),
        beta=1.0,
        g_first=True,
        max_iter=steps,
    )
    start = (case.zero, case.zero, case.zero.new_zeros((*case.zero.shape, 2)))
    theirs = model(case.y, case.physics(), init=start)
    exact(monkeypatch, "total_variation")
    ((_, state),) = total_variation(case.operator, case.data, [steps], lam, tau=tau, inner=1000)
    agree(f"total variation, {steps} steps", [images(state.x)], [theirs], 1e-5)
    assert variation(state.x) == pytest.approx(float(prior.fn(images(state.x)).sum()), rel=1e-6)


def test_pnp_pgd(case):
    denoiser, seen = Theirs(), Seen()
    model = deepinv.optim.PGD(
        data_fidelity=L2(),
        prior=deepinv.optim.PnP(denoiser),
        stepsize=ETA,
        sigma_denoiser=0.1,
        max_iter=30,
    )
    theirs = model(case.y, case.physics(), init=case.zero)
    x = pnp_pgd(case.operator, case.data, denoise=seen, sigma=0.1, step_size=ETA, steps=30)
    agree("PnP-PGD, 30 steps", [*seen.given, images(x)], [*denoiser.given, theirs], 1e-5)


def test_dpir(case, monkeypatch):
    """Its own class with its own settings: levels from 49/255 to sigma_y, lam = 0.23.

    Its step of the proximal map is one over our alpha_k; below sigma_y = 0.01 it takes 0.01.
    """
    denoiser, seen = Theirs(), Seen()
    theirs = deepinv.optim.DPIR(SIGMA_Y, denoiser)(case.y, case.physics(), init=case.zero)
    exact(monkeypatch, "plug_and_play")
    x = solve_dpir(case, seen, inner=1000)
    agree("DPIR, 8 levels", [*seen.given, images(x)], [*denoiser.given, theirs], 1e-3)


def test_what_five_conjugate_gradients_lack_lies_mostly_where_rays_are_not_measured(masked):
    """They are our default; under a mask that is not yet the proximal map."""
    model = deepinv.optim.DPIR(SIGMA_Y, Theirs())
    theirs = model(masked.y, masked.physics(), init=masked.zero)
    x = images(solve_dpir(masked, Seen(), inner=5))
    agree("DPIR, 8 levels, 5 conjugate gradients", [x], [theirs], 0.3)
    first = GEOMETRY.reach - masked.operator.columns[0]
    inner = slice(first, first + FIELD - 2 * GEOMETRY.reach)
    agree("the same, inner columns", [x[..., inner]], [theirs[..., inner]], 0.1)


def test_ddrm(whole, monkeypatch):
    """With the singular vectors of the dense matrix; ours has them per frequency.

    Theirs divides its noise by sqrt(2), which the paper does not. It takes modes for seen whose singular
    value is above sigma_y, ours those above `cut`: here the same, for the cut is just above sigma_y.
    Compared is what the denoiser is given: ours goes on to level 0 after its last call, theirs ends.
    """
    values, cut = whole.svd[1], 0.2
    kept = torch.where(values >= cut * values[0], values, 0.0)
    least = float(kept[kept > 0].min())
    sigma_y = 0.9 * least
    levels = noise_levels("exponential", 3.0, 0.1, 8)
    assert 0.2 < float((kept > 0).double().mean()) < 0.8
    assert sigma_y / float(values[0]) < levels[2]
    assert levels[-1] < sigma_y / least < levels[0], "modes pass from noisy to well seen"
    physics = whole.physics(kept, deepinv.physics.GaussianNoise(sigma_y))
    noises = (math.sqrt(2) * whole.to_modes(images(whole.noise(n))) for n in range(len(levels)))
    denoiser, seen = Theirs(), Seen()
    with monkeypatch.context() as patch:
        drawn(patch, noises)
        deepinv.sampling.DDRM(denoiser, sigmas=np.array(levels), eps=0.0)(whole.y, physics)
    ddrm(
        whole.operator,
        whole.data,
        denoise=seen,
        noise=whole.noise,
        sigma=levels,
        sigma_y=sigma_y,
        cut=cut,
    )
    agree("DDRM, 8 levels", seen.given, denoiser.given, 1e-5)


def test_dps(case):
    """Variance exploding, the ancestral step.

    Theirs adds its guidance to the score, which multiplies it with the fall of the variance,
    sigma_n^2 - sigma_{n+1}^2. Ours is the paper's, the same at every level. Levels evenly spaced in
    variance make them equal. Theirs ends at its sigma_min with a denoising, ours at 0.
    """
    zeta, steps = 0.3, 8
    sde = deepinv.sampling.VarianceExplodingDiffusion()
    low, high = (float(sde.sigma_t(t)) for t in (0.0, 1.0))
    variance = torch.linspace(1.0, low**2, steps + 1, dtype=torch.float64)
    levels = variance.sqrt()
    solver = deepinv.sampling.DDPMSolver((levels / low).log() / math.log(high / low))
    noises = (images(case.noise(n)) for n in range(1, steps + 1))
    solver.randn_like = lambda _: next(noises)
    denoiser, seen = Theirs(), Seen()
    model = deepinv.sampling.DPS(
        denoiser,
        schedule="ve",
        solver=solver,
        weight=2 * zeta * math.sqrt(ETA) / float(variance[0] - variance[1]),
        minus_one_one=False,
    )
    theirs = model(case.y, case.physics(), x_init=images(case.noise(0)))
    dps(
        case.operator,
        case.data,
        denoise=seen,
        noise=case.noise,
        sigma=tuple(levels.tolist()),
        zeta=zeta,
    )
    assert max(float(x.abs().max()) for x in seen.gave) < 1, "theirs would clip"
    ours = [*seen.given, seen.gave[-1]]
    agree(f"DPS, {steps} levels", ours, [*denoiser.given, theirs], 1e-5)


def test_diffpir(case, monkeypatch):
    """Theirs preserves variance and images are in 0 ... 1; ours explodes it, with mean 0.

    Its states are sqrt(alpha_bar_t) times ours, and its image p is x = 2 p - 1. So b becomes
    (b + A 1) / 2 and sigma_y half of it. Its lambda is twice ours, for its proximal map has half the
    paper's weight in the units of p. The levels are those below 1 of twenty of its chain of 1000. It
    takes the data's variance from that of the start, scaled as the first state of the chain. It ends
    without the last denoising.
    """
    lam, zeta = 8.0, 0.3
    denoiser, seen = Theirs(unit=True), Seen()
    model = deepinv.sampling.DiffPIR(
        denoiser, L2(), sigma=SIGMA_Y / 2, max_iter=20, zeta=zeta, lambda_=2 * lam
    )
    model.seq = model.seq[model.sigmas[model.seq] < 1]
    levels = model.sigmas[model.seq].tolist()
    scale = math.sqrt((1 + float(model.sigmas[0]) ** 2) / (1 + levels[0] ** 2))
    scale /= math.sqrt(1 - (SIGMA_Y / levels[0]) ** 2)

    physics = case.physics()
    half = case.zero + 0.5
    with monkeypatch.context() as patch:
        noises = (images(case.noise(n)) for n in range(len(levels)))
        drawn(patch, itertools.chain([scale * next(noises)], noises))
        theirs = model(case.y / 2 + physics.A(half), physics, x_init=half)
    exact(monkeypatch, "diffpir")
    diffpir(
        case.operator,
        case.data,
        denoise=seen,
        noise=case.noise,
        sigma=levels,
        sigma_y=SIGMA_Y,
        lam=lam,
        zeta=zeta,
        inner=1000,
    )
    assert max(float(x.abs().max()) for x in seen.gave) < 1, "theirs would clip"
    agree(f"DiffPIR, {len(levels)} levels", seen.given, denoiser.given, 1e-4)
    out = (2 * theirs - 1) * math.sqrt(1 + levels[-1] ** 2)
    agree("DiffPIR, its result", seen.given[-1:], [out], 1e-4)
