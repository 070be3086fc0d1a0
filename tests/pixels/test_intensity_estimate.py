"""The affine map between the data's unit and the prior's: equivariant, and accurate.

Bounds here are for a texture of 32 x 24 x 200 voxels and 13 tilts within 60 degrees: its mean
within 0.1 of its standard deviation, its standard deviation within 6 %, the noise within 3 % (10 %
where it is only a twentieth of the contrast, for the finest texture passes for noise).
"""

import math

import pytest
import torch
from torch import Tensor

from ddgm_dist.core.geometry import Geometry
from ddgm_dist.core.intensity import Intensity
from ddgm_dist.errors import InputError
from ddgm_dist.operators.slab.interpolated import InterpolatedOperator
from ddgm_dist.operators.slab.operator import SlabOperator
from ddgm_dist.pixels.intensity_estimate import estimate_intensity
from ddgm_dist.pixels.noise_estimate import estimate_noise
from ddgm_dist.pixels.omitted_lines import Lines, omitted_lines

ANGLES = tuple(torch.linspace(-60, 60, 13).tolist())
SLAB = Geometry(ANGLES, thickness=32, rows=24, field=200)
# Columns that rays to the detector's ends cross at 60 degrees.
WIDE = (-130, 330)
NEEDLE = Geometry(ANGLES, thickness=40, rows=12, field=120, boundary="vacuum")


def texture(shape: tuple[int, int, int], width: float, seed: int) -> Tensor:
    """Gaussian random field of zero mean and unit variance, correlated over ``width`` voxels."""
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    spectrum = torch.fft.fftn(noise)
    for axis, n in enumerate(shape):
        k = 2 * math.pi * torch.fft.fftfreq(n, dtype=torch.float64)
        extent = [n if a == axis else 1 for a in range(3)]
        spectrum = spectrum * torch.exp(-((k * width) ** 2) / 2).reshape(extent)
    field = torch.fft.ifftn(spectrum).real
    return (field - field.mean()) / field.std()


def slab_projections(width: float, seed: int, mean: float = 5.0, std: float = 2.0) -> Tensor:
    """Projections of a slab that goes on beyond the field."""
    volume = mean + std * texture((32, 24, WIDE[1] - WIDE[0]), width, seed)
    return InterpolatedOperator(SLAB, WIDE).A(volume.float())


def add_noise(projections: Tensor, fraction: float) -> tuple[Tensor, float]:
    """White noise, as a fraction of the contrast; and its standard deviation."""
    sigma = fraction * float((projections - projections.mean(dim=(1, 2), keepdim=True)).std())
    g = torch.Generator().manual_seed(99)
    return projections + sigma * torch.randn(projections.shape, generator=g), sigma


@pytest.mark.parametrize(("width", "seed"), [(1.5, 0), (2.5, 1), (4.0, 2)])
@pytest.mark.parametrize("fraction", [0.05, 0.5, 1.0])
def test_the_map_of_a_noisy_slab_is_found(width: float, seed: int, fraction: float):
    projections, sigma_y = add_noise(slab_projections(width, seed), fraction)
    found = estimate_intensity(projections, SLAB)
    assert found.mean == pytest.approx(5.0, abs=0.2)
    assert found.std == pytest.approx(2.0, rel=0.06)
    assert found.sigma_y == pytest.approx(sigma_y, rel=0.03 if fraction > 0.1 else 0.1)
    assert found.relative_noise == pytest.approx(found.sigma_y / found.std)


def test_steep_and_shuffled_tilts_do_not_matter():
    projections, _ = add_noise(slab_projections(2.5, 0), 0.5)
    order = torch.randperm(13, generator=torch.Generator().manual_seed(0)).tolist()
    shuffled = Geometry(tuple(ANGLES[i] for i in order), 32, 24, 200)
    base = estimate_intensity(projections, SLAB)
    other = estimate_intensity(projections[order], shuffled)
    assert (other.mean, other.std) == pytest.approx((base.mean, base.std), rel=1e-9)


@pytest.mark.parametrize(("scale", "constant"), [(1000.0, 0.0), (1.0, 70.0), (1000.0, -7.0)])
def test_scaled_and_shifted_data_give_the_same_normalised_data(scale: float, constant: float):
    projections = add_noise(slab_projections(2.5, 0), 0.3)[0].double()
    path = SLAB.thickness / torch.cos(torch.tensor(SLAB.angles, dtype=torch.float64))
    changed = scale * projections + constant * path[:, None, None]
    a, b = estimate_intensity(projections, SLAB), estimate_intensity(changed, SLAB)
    assert b.mean == pytest.approx(scale * a.mean + constant, rel=1e-6)
    assert b.std == pytest.approx(scale * a.std, rel=1e-6)
    assert b.sigma_y == pytest.approx(scale * a.sigma_y, rel=1e-6)
    same = a.normalise(projections, SLAB)
    assert torch.allclose(b.normalise(changed, SLAB), same, atol=1e-5 * float(same.abs().max()))


def test_normalised_projections_are_those_of_the_normalised_volume():
    volume = 5 + 2 * texture((32, 3, WIDE[1] - WIDE[0]), 2.5, 0)
    op = InterpolatedOperator(SLAB, WIDE)
    intensity = Intensity(mean=5.0, std=2.0, sigma_y=0.0)
    normal = intensity.normalise(op.A(volume.float()), SLAB)
    expected = op.A(((volume - 5) / 2).float())
    assert torch.allclose(normal, expected, atol=1e-3)
    assert torch.allclose(intensity.restore((volume - 5) / 2), volume)


def test_a_known_noise_is_taken_at_its_word():
    projections, sigma_y = add_noise(slab_projections(2.5, 0), 0.5)
    assert estimate_intensity(projections, SLAB, sigma_y=sigma_y).sigma_y == sigma_y


@pytest.mark.parametrize("shape", [(3, 40, 300), (3, 1, 3000), (3, 2, 3000), (3, 1000, 4)])
def test_noise_is_measured_on_top_of_a_smooth_specimen(shape: tuple[int, int, int]):
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y, u = torch.arange(shape[1])[:, None], torch.arange(shape[2])
    smooth = 100 + 3 * u + 0.5 * y + 40 * torch.sin(u / 40.0)
    assert estimate_noise(0.7 * noise + smooth) == pytest.approx(0.7, rel=0.05)
    assert estimate_noise(smooth.expand(shape)) < 0.05


def test_a_few_bad_pixels_do_not_spoil_the_noise():
    noise = torch.randn((4, 50, 200), generator=torch.Generator().manual_seed(0))
    noise[:, ::10, ::20] = 1e4
    assert estimate_noise(noise) == pytest.approx(1.0, rel=0.15)


def test_an_isolated_specimen_is_measured_within_its_vacuum():
    z = torch.arange(40)[:, None] - 19.5
    x = torch.arange(120) - 59.5
    boundary = ((z**2 + x**2) < 16**2)[:, None] * (2 + 0.5 * texture((40, 12, 120), 2.5, 0))
    clean = InterpolatedOperator(NEEDLE).A(boundary.float())
    projections, sigma_y = add_noise(clean, 0.1)
    found = estimate_intensity(projections, NEEDLE)
    assert found.mean == pytest.approx(float(boundary.mean()), rel=0.01)
    assert found.std == pytest.approx(float(boundary.std()), rel=0.15)
    assert found.sigma_y == pytest.approx(sigma_y, rel=0.05)


def test_the_normalised_truth_in_vacuum_explains_the_normalised_data():
    # The map moves vacuum away from zero; the operator's background says where to.
    z, x = torch.arange(40)[:, None] - 19.5, torch.arange(120) - 59.5
    boundary = (10 * torch.exp(-((z / 4) ** 2 + (x / 6) ** 2) / 2))[:, None]
    intensity = Intensity(mean=2.0, std=3.0, sigma_y=0.0)
    assert intensity.restore(torch.tensor(intensity.vacuum)) == pytest.approx(0.0, abs=1e-6)
    operator = SlabOperator(NEEDLE, background=intensity.vacuum)
    projections = InterpolatedOperator(NEEDLE).A(boundary)
    data = operator.prepare(intensity.normalise(projections, NEEDLE))
    left = operator.residual((boundary - 2) / 3, data)
    assert left.norm() < 2e-3 * data.stretched.norm()


@pytest.mark.parametrize("geometry", [SLAB, NEEDLE])
def test_data_without_contrast_are_refused(geometry: Geometry):
    flat = torch.full((13, 24, 200), 7.0)
    with pytest.raises(InputError, match="no contrast") as caught:
        estimate_intensity(flat, geometry)
    assert caught.value.argument == "projections"
    noise = torch.randn((13, 24, 200), generator=torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match="no contrast"):
        estimate_intensity(flat + noise, geometry, sigma_y=1.5)


# -- robust -------------------------------------------------------------------------------------


def close(found: Intensity, clean: Intensity) -> None:
    """The law: within 5 %."""
    assert found.mean == pytest.approx(clean.mean, rel=0.05)
    assert found.std == pytest.approx(clean.std, rel=0.05)
    assert found.sigma_y == pytest.approx(clean.sigma_y, rel=0.05)


def noisy() -> Tensor:
    return add_noise(slab_projections(2.5, 1), 0.3)[0]


@pytest.mark.parametrize("value", [-1e9, 0.0, 3e3, 1e9])
def test_a_blob_of_any_value_changes_little(value: float) -> None:
    """Too large for a hot pixel: its lines are left out."""
    projections = noisy()
    clean = estimate_intensity(projections, SLAB)
    projections[6, 10:15, 98:103] = value
    close(estimate_intensity(projections, SLAB), clean)


def test_a_tenth_of_the_lines_may_be_blank_or_wild() -> None:
    projections = noisy()
    clean = estimate_intensity(projections, SLAB)
    for row, value in ((3, 0.0), (17, 1e6)):
        changed = projections.clone()
        changed[:, row] = value  # one row of 24, in every view
        changed[:, row, ::2] *= 2
        close(estimate_intensity(changed, SLAB), clean)


@pytest.mark.parametrize("view", [0, 6])
def test_a_blank_view_changes_little(view: int) -> None:
    projections = noisy()
    clean = estimate_intensity(projections, SLAB)
    projections[view] = 0.0
    close(estimate_intensity(projections, SLAB), clean)


def test_what_was_not_measured_does_not_count() -> None:
    """Wherever it is: a view, rows, margins, and pixels that were replaced."""
    projections = noisy()
    clean = estimate_intensity(projections, SLAB)
    good = torch.ones(projections.shape, dtype=torch.bool)
    good[4] = good[:, 20:] = good[:, :, :40] = False
    good[7, 3, 50] = False
    projections[~good] = 0.0
    projections[7, 3, 50] = projections[7, 3, 49]
    found = estimate_intensity(projections, SLAB, good=good)
    close(found, clean)
    everything = torch.ones_like(good)
    assert estimate_intensity(noisy(), SLAB, good=everything) == clean


def test_where_nothing_is_left_out_nothing_is_changed() -> None:
    """The figures of clean data: bit for bit those of the plain formulas."""
    assert estimate_intensity(noisy(), SLAB).sigma_y == estimate_noise(noisy())


# -- what is seen in many views is specimen ------------------------------------------------------


def plain(projections: Tensor, geometry: Geometry, monkeypatch: pytest.MonkeyPatch) -> Intensity:
    """What the formulas give of all lines."""
    with monkeypatch.context() as patch:
        every = [Lines(t, None, 0, geometry.field) for t in range(geometry.tilts)]
        patch.setattr("ddgm_dist.pixels.intensity_estimate.measured_lines", lambda *_: every)
        return estimate_intensity(projections, geometry)


def projected(volume: Tensor) -> Tensor:
    return InterpolatedOperator(SLAB, WIDE).A(volume.float())


def in_few_rows() -> Tensor:
    volume = torch.ones(32, 24, WIDE[1] - WIDE[0])
    g = torch.Generator().manual_seed(0)
    volume[8:24, 10:12, 200:260] += 3 + 6 * torch.rand((16, 2, 60), generator=g)
    return add_noise(projected(volume), 0.02)[0]


def a_bead() -> Tensor:
    volume = 1 + 0.05 * texture((32, 24, WIDE[1] - WIDE[0]), 2.0, 0)
    volume[14:19, 12:14, 228:233] = 30
    return projected(volume)


def in_a_vacuum() -> Tensor:
    volume = torch.zeros(32, 24, WIDE[1] - WIDE[0])
    volume[14:18, 10:13, 210:250] = 1
    return projected(volume)


def counts() -> Tensor:
    clean = projected(0.001 * torch.ones(32, 24, WIDE[1] - WIDE[0]))
    clean[:, :4] = 0
    return torch.poisson(clean, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("make", [in_few_rows, a_bead, in_a_vacuum, counts])
def test_sparse_specimens_are_estimated_from_all_lines(make, monkeypatch) -> None:
    """To the bit: what is in many views is no fault, and nothing is left out."""
    projections = make()
    assert omitted_lines(projections, SLAB) == []
    assert estimate_intensity(projections, SLAB) == plain(projections, SLAB, monkeypatch)


def test_what_is_left_out_is_told_by_its_place() -> None:
    projections = noisy()
    projections[6, 10:12, 98:103] = 1e4
    projections[3, 7] = 0.0
    assert omitted_lines(projections, SLAB) == [(3, 7), (6, 10), (6, 11)]
    assert omitted_lines(noisy(), SLAB) == []
    # Along y the views may be moved.
    moved = Geometry(ANGLES, 32, 24, 200, tuple((float(t % 3 * 4), 0.0) for t in range(13)))
    sparse = in_few_rows()
    shifted = torch.stack([p.roll(t % 3 * 4, 0) for t, p in enumerate(sparse)])
    assert omitted_lines(shifted, moved) == []


@pytest.mark.parametrize("tilts", [1, 13])
def test_a_single_pixel_has_no_contrast_and_gives_no_warning(tilts: int):
    geometry = Geometry(ANGLES[:tilts], thickness=4, rows=1, field=1, boundary="vacuum")
    with pytest.raises(InputError, match="no contrast above their noise"):
        estimate_intensity(torch.full((tilts, 1, 1), 3.0), geometry)
