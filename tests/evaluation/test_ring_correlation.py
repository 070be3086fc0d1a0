"""Laws of the ring correlation by orientation."""

import numpy as np
import pytest

from ddgm_dist.errors import InputError
from ddgm_dist.evaluation.ring_correlation import ring_correlation

SHAPE = (64, 6, 96)


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=SHAPE)


def filtered(volume: np.ndarray, max_tilt_deg: float) -> np.ndarray:
    """Without the missing wedge's frequencies."""
    kz, kx = np.fft.fftfreq(SHAPE[0])[:, None, None], np.fft.fftfreq(SHAPE[2])
    seen = np.abs(kz) <= np.abs(kx) * np.tan(np.deg2rad(max_tilt_deg))
    spectrum = np.fft.fftn(volume, axes=(0, 2)) * seen
    return np.fft.ifftn(spectrum, axes=(0, 2)).real


def test_equal_volumes_correlate_fully_whatever_scale_and_offset() -> None:
    found = ring_correlation(3 * noise(0) + 7, noise(0), max_tilt_deg=60)
    for curve in (found.measured[1:], found.missing[1:], found.all):
        np.testing.assert_allclose(curve, 1, atol=1e-9)


def test_a_negative_correlates_negatively() -> None:
    found = ring_correlation(-noise(0), noise(0), max_tilt_deg=60)
    np.testing.assert_allclose(found.all, -1, atol=1e-9)


def test_independent_volumes_do_not_correlate() -> None:
    found = ring_correlation(noise(0), noise(1), max_tilt_deg=60, rings=8)
    for curve in (found.measured[1:], found.missing[1:]):
        assert np.abs(curve).max() < 0.15
        assert np.abs(curve.mean()) < 0.03


@pytest.mark.parametrize("max_tilt_deg", [45, 60, 70])
def test_a_wedge_filtered_volume_loses_the_wedge_alone(max_tilt_deg: float) -> None:
    truth = noise(0)
    found = ring_correlation(
        filtered(truth, max_tilt_deg), truth, max_tilt_deg=max_tilt_deg, rings=8
    )
    # The taper carries some power across the wedge's border, most where rings are small.
    assert found.measured[2:].min() > 0.95
    assert found.missing[2:].max() < 0.5
    assert (found.missing[2:] < found.all[2:]).all()
    assert (found.all[2:] < found.measured[2:]).all()


def test_noise_of_equal_power_halves_the_correlation_squared() -> None:
    """FRC of s and s + n is ``1 / sqrt(1 + n^2 / s^2)``."""
    found = ring_correlation(noise(0) + noise(1), noise(0), max_tilt_deg=60, rings=8)
    np.testing.assert_allclose(found.all[1:], 0.5**0.5, atol=0.05)


def test_only_frequencies_that_differ_lose() -> None:
    """A volume without its upper half of frequencies along x keeps the rings below."""
    truth = noise(0)
    spectrum = np.fft.fftn(truth, axes=(0, 2))
    low = np.hypot(np.fft.fftfreq(SHAPE[0])[:, None, None], np.fft.fftfreq(SHAPE[2])) < 0.25
    blurred = np.fft.ifftn(spectrum * low, axes=(0, 2)).real
    found = ring_correlation(blurred, truth, max_tilt_deg=60, rings=16)
    assert found.all[found.frequency < 0.2].min() > 0.95
    # What the taper carried over is little of the truth's power there, but all of the volume's.
    assert np.abs(found.all[found.frequency > 0.4]).max() < 0.3


def test_without_a_wedge_there_is_none() -> None:
    found = ring_correlation(noise(0), noise(1), max_tilt_deg=90)
    assert np.isnan(found.missing).all()
    np.testing.assert_array_equal(found.measured, found.all)


def test_rings_span_to_the_nyquist_frequency() -> None:
    found = ring_correlation(noise(0), noise(0), max_tilt_deg=60, rings=10)
    np.testing.assert_allclose(found.frequency, np.arange(10) / 20 + 0.025)


def test_a_slice_without_structure_has_no_correlation() -> None:
    assert np.isnan(ring_correlation(np.ones(SHAPE), noise(0), max_tilt_deg=60).all).all()


@pytest.mark.parametrize(
    ("change", "argument"),
    [
        ({"volume": noise(0)[:, :3]}, "reference"),
        ({"volume": noise(0)[:4], "reference": noise(0)[:4]}, "volume"),
        ({"reference": np.where(noise(0) > 3, np.nan, noise(0))}, "reference"),
        ({"max_tilt_deg": 0.0}, "max_tilt_deg"),
        ({"max_tilt_deg": float("nan")}, "max_tilt_deg"),
        ({"rings": 0}, "rings"),
    ],
)
def test_bad_input_is_named(change: dict, argument: str) -> None:
    given = {"volume": noise(0), "reference": noise(0), "max_tilt_deg": 60.0} | change
    with pytest.raises(InputError) as error:
        ring_correlation(**given)
    assert error.value.argument == argument
