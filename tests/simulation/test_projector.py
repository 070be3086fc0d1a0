"""The simulation's projector against analytic projections and the laws of line integrals."""

import numpy as np
import pytest

from ddgm_dist.errors import InputError
from ddgm_dist.simulation.projector import Projector, keys, project

ANGLES = (-70.0, -45.0, 0.0, 17.0, 60.0)


def random_volume(shape, seed=0):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def smooth_volume(shape):
    z, y, x = np.ogrid[tuple(slice(n) for n in shape)]
    bump = np.exp(-((z - 9.3) ** 2 + (x - 21.0) ** 2) / 32)
    return (bump * (1 + np.cos(0.35 * y + 0.2))).astype(np.float32)


def gaussian(shape, centre, sigma):
    z, x = (np.arange(n) - (n - 1) / 2 for n in shape)
    square = (z[:, None] - centre[0]) ** 2 + (x - centre[1]) ** 2
    return np.exp(-square / (2 * sigma**2))[:, None, :]


@pytest.mark.parametrize("angle", ANGLES)
@pytest.mark.parametrize(("depth", "width", "n_u"), [(61, 101, 101), (62, 101, 90), (61, 96, 101)])
def test_gaussians_have_their_analytic_projection(angle, depth, width, n_u):
    centre, sigma, dx, rays = (4.3, -11.6), 2.5, 0.37, 2
    blob = gaussian((depth, width), centre, sigma)
    got = project(blob, [angle], n_u=n_u, shifts=[(0.0, dx)], oversample=rays)[0, 0]
    theta = np.radians(angle)
    landing = centre[1] * np.cos(theta) + centre[0] * np.sin(theta) + dx
    u = np.arange(n_u)[:, None] - (n_u - 1) / 2 + np.array([-0.25, 0.25])
    line = np.sqrt(2 * np.pi) * sigma * np.exp(-((u - landing) ** 2) / (2 * sigma**2))
    want = line.mean(axis=1)
    np.testing.assert_allclose(got, want, atol=2e-3 * want.max())


@pytest.mark.parametrize("angle", ANGLES)
def test_more_rays_approach_the_mean_over_the_pixel(angle):
    volume = random_volume((12, 1, 40))
    got = project(volume, [angle], n_u=61, oversample=16)
    np.testing.assert_allclose(
        got, project(volume, [angle], n_u=61, oversample=64), atol=2e-3 * got.max()
    )


@pytest.mark.parametrize("angle", ANGLES)
def test_mass_is_conserved(angle):
    volume = random_volume((20, 3, 40))
    got = project(volume, [angle], n_u=101)
    np.testing.assert_allclose(got.sum(axis=-1)[0], volume.sum(axis=(0, 2)), rtol=2e-5)


@pytest.mark.parametrize("angle", ANGLES)
def test_a_slab_is_as_thick_as_the_path_through_it(angle):
    slab = np.ones((32, 1, 161), dtype=np.float32)
    got = project(slab, [angle], n_u=9)
    np.testing.assert_allclose(got, 32 / np.cos(np.radians(angle)), rtol=1e-5)


def test_it_is_linear():
    a, b = random_volume((9, 2, 30)), random_volume((9, 2, 30), seed=1)
    got = project(2 * a - 3 * b, ANGLES, n_u=24)
    want = 2 * project(a, ANGLES, n_u=24) - 3 * project(b, ANGLES, n_u=24)
    np.testing.assert_allclose(got, want, atol=2e-4)


def test_whole_shifts_move_the_projections():
    volume, moves = random_volume((9, 12, 30)), [(0, 2), (0, -3), (3, 0), (-1, 1), (0, 0)]
    still = project(volume, ANGLES, n_u=60)
    moved = project(volume, ANGLES, n_u=60, shifts=moves)
    for tilt, (dy, dx) in enumerate(moves):
        want = np.roll(still[tilt], (dy, dx), axis=(0, 1))[3:-3, 3:-3]
        np.testing.assert_allclose(moved[tilt, 3:-3, 3:-3], want, atol=1e-4)


def test_a_fractional_shift_along_y_interpolates_rows():
    volume = smooth_volume((19, 24, 43))
    got = project(volume, [20.0], n_u=43, shifts=[(0.4, 0.0)])[0]
    still = project(volume, [20.0], n_u=43)[0]
    y = np.arange(24)
    scale = (1 + np.cos(0.35 * (y - 0.4) + 0.2)) / (1 + np.cos(0.2))
    np.testing.assert_allclose(got[2:-2], (scale[:, None] * still[0])[2:-2], atol=3e-3 * got.max())


def test_beyond_the_ends_rows_go_on():
    volume = random_volume((5, 6, 11))
    got = project(volume, [0.0], n_u=11, shifts=[(2.0, 0.0)])[0]
    np.testing.assert_array_equal(got[:2], got[2:3].repeat(2, axis=0))


@pytest.mark.parametrize("shift", [None, [(1.3, 0.2), (-2.0, 0.0), (0.5, 1.0), (0, 0), (-0.7, 3)]])
def test_rows_do_not_depend_on_the_block(shift):
    volume = random_volume((9, 17, 30))
    whole = project(volume, ANGLES, n_u=24, shifts=shift)
    projector = Projector(9, 30, ANGLES, n_u=24, shifts=shift)
    for rows in (slice(0, 5), slice(5, 6), slice(6, 17)):
        block = volume[:, projector.needs(rows, 17)]
        np.testing.assert_array_equal(projector.project(block, rows, 17), whole[:, rows])


def test_a_narrow_detector_crops_a_wide_one():
    volume = random_volume((20, 2, 50))
    wide = project(volume, ANGLES, n_u=120)
    np.testing.assert_array_equal(project(volume, ANGLES, n_u=30), wide[..., 45:75])


def test_slabs_and_what_is_kept_change_nothing(monkeypatch):
    volume = random_volume((20, 2, 50))
    want = project(volume, ANGLES, n_u=40)
    monkeypatch.setattr("ddgm_dist.simulation.projector._SLAB_VOXELS", 150)
    monkeypatch.setattr("ddgm_dist.simulation.projector._CACHE_BYTES", 0)
    np.testing.assert_allclose(project(volume, ANGLES, n_u=40), want, rtol=1e-5)


def test_the_kernel_interpolates_and_sums_to_one():
    np.testing.assert_array_equal(keys(np.arange(-3.0, 4.0)), [0, 0, 0, 1, 0, 0, 0])
    shifted = np.linspace(0, 1, 7)[:, None] + np.arange(-3, 3)
    np.testing.assert_allclose(keys(shifted).sum(axis=1), 1)
    np.testing.assert_allclose((keys(shifted) * shifted).sum(axis=1), 0, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "argument"),
    [
        ({"angles_deg": ()}, "angles_deg"),
        ({"n_u": 0}, "n_u"),
        ({"oversample": 0}, "oversample"),
        ({"shifts": [(0, 0), (1, 1)]}, "shifts"),
        ({"volume": np.zeros((3, 4))}, "volume"),
        ({"volume": np.zeros((3, 0, 4))}, "volume"),
    ],
)
def test_what_cannot_be_projected_is_refused(change, argument):
    given = {"volume": np.zeros((3, 2, 4)), "angles_deg": (0.0,), "n_u": 4} | change
    with pytest.raises(InputError) as caught:
        project(**given)
    assert caught.value.argument == argument
