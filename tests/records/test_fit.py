"""The verdict: noise of any level is explained, structure in the residual is not."""

import json
import math

import pytest

from ddgm_dist.core.intensity import Intensity
from ddgm_dist.core.view_sums import ViewSums
from ddgm_dist.records.fit import Fit

UNIT = Intensity(mean=10.0, std=4.0, sigma_y=2.0)  # 0.5 in normalised units
VIEWS, SAMPLES = 20, 1000.0


def verdict(
    noise: float = 0.5,
    misfit: float = 0.0,
    *,
    contrast: float = 2.0,
    correlation: float = 0.5,
    bad: dict[int, float] | None = None,
    intensity: Intensity = UNIT,
    coverage: float = 1.0,
) -> Fit:
    """Views with white noise and a misfit that correlates; some views have another misfit."""
    each = [(bad or {}).get(view, misfit) for view in range(1, VIEWS + 1)]
    sums = ViewSums(
        tuple((noise**2 + m**2) * SAMPLES for m in each),
        (SAMPLES,) * VIEWS,
        ((contrast**2 + noise**2) * SAMPLES,) * VIEWS,
        tuple(correlation * m**2 * SAMPLES for m in each),
    )
    found = Fit.judge(sums, intensity, coverage)
    assert found is not None
    return found


def test_the_figures() -> None:
    found = verdict(misfit=1.2, bad={7: 1.3, 3: 1.25})
    assert found.views[0] == pytest.approx(math.hypot(0.5, 1.2) / 0.5)
    assert found.views[6] == pytest.approx(math.hypot(0.5, 1.3) / 0.5)
    assert found.ratio == pytest.approx(math.hypot(0.5, 1.2) / 0.5, rel=0.02)
    assert found.residual == pytest.approx(4 * math.hypot(0.5, 1.2), rel=0.02)
    assert found.sigma_y == 2.0
    assert found.worst[:3] == (7, 3, 1)
    assert sorted(found.worst) == list(range(1, VIEWS + 1))
    assert found.bad == ()


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.4, 0.5, 0.7, 1.4])
def test_noise_is_explained_whatever_its_level(noise: float) -> None:
    found = verdict(noise)
    assert found.explained
    assert found.warning() is None
    assert "NOT" not in found.text()
    assert f"{noise / 0.5:.3g}" in found.text()


@pytest.mark.parametrize("noise", [0.01, 0.5, 1.0])
def test_structure_is_not_explained(noise: float) -> None:
    found = verdict(noise, 1.0)
    assert not found.explained
    warning = found.warning() or ""
    order = ["aligned", "counts", "signs", "thickness", "bad"]
    places = [warning.index(word) for word in order]
    assert places == sorted(places)
    assert "worst views (numbered from 1): 1, 2, 3, 4, 5, ...;" in warning
    assert "\n" not in warning


def test_a_little_structure_is_explained() -> None:
    """A model is never exact: one part in a hundred of the contrast is no reason to warn."""
    quiet = Intensity(10.0, 4.0, 0.04)
    assert verdict(0.01, 0.02, intensity=quiet).explained
    assert not verdict(0.01, 0.2, intensity=quiet).explained
    # Images that were resampled have correlated noise.
    assert verdict(0.0, 1.0, correlation=0.06).explained


def test_a_residual_far_above_the_noise_is_not_explained() -> None:
    """Whether pixels share it or not: they share no misfit of the finest detail."""
    assert not verdict(0.5, 2.0, correlation=0.0).explained
    assert not verdict(0.5, 2.0, correlation=-0.4).explained
    assert verdict(0.5, 0.5, correlation=0.0).explained
    # Against a large contrast it is little: the estimate of the noise is too small.
    assert verdict(0.5, 2.0, correlation=0.0, contrast=40.0).explained
    large = verdict(0.5, 2.0, contrast=60.0)
    assert large.text().startswith(
        "data explained but for 3.4 % of their contrast: the residual is 4.12 "
    )


def test_a_residual_below_the_noise_is_explained() -> None:
    """Such an estimate has followed the noise, and what it leaves may be correlated."""
    assert verdict(0.2, 0.2).explained
    assert not verdict(0.4, 0.4).explained


def test_structure_of_either_sign_counts() -> None:
    assert not verdict(0.1, 0.6, correlation=-0.5).explained


def test_few_bad_views_are_named_first() -> None:
    found = verdict(bad={4: 1.5, 11: 2.0})
    assert found.bad == (11, 4)
    assert found.worst[:2] == (11, 4)
    assert not found.explained
    warning = found.warning() or ""
    assert "views that do not fit (numbered from 1): 11, 4;" in warning
    assert warning.index("(1) single views are bad") < warning.index(
        "(2) the views are not aligned"
    )


def test_a_view_that_is_only_noisier_is_not_bad() -> None:
    sums = ViewSums((1.0, 1.0, 9.0), (4.0,) * 3, (40.0,) * 3, (0.0,) * 3)
    found = Fit.judge(sums, UNIT)
    assert found is not None
    assert found.explained
    assert found.worst[0] == 3
    assert found.views == pytest.approx((1.0, 1.0, 3.0))


def test_views_without_a_sample_have_no_ratio() -> None:
    sums = ViewSums((1.0, 0.0), (4.0, 0.0), (40.0, 0.0), (0.0, 0.0))
    found = Fit.judge(sums, UNIT)
    assert found is not None
    assert math.isnan(found.views[1])
    assert found.worst == (1,)
    assert found.ratio == pytest.approx(1.0)
    assert Fit.judge(ViewSums.zero(2), UNIT) is None


def test_without_noise_there_is_no_ratio_but_a_verdict() -> None:
    silent = Intensity(10.0, 4.0, 0.0)
    assert verdict(0.01, intensity=silent).explained
    found = verdict(0.01, 1.0, intensity=silent)
    assert math.isinf(found.ratio)
    assert not found.explained
    assert "sigma_y is 0" in found.text()


@pytest.mark.parametrize("intensity", [UNIT, Intensity(10.0, 4.0, 0.0)], ids=["noise", "none"])
def test_it_comes_back_from_a_file(intensity: Intensity) -> None:
    found = verdict(misfit=1.0, intensity=intensity, coverage=0.5)
    again = Fit.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False)))
    assert again is not None
    assert again == found or math.isinf(found.ratio)
    assert again.text() == found.text()
    assert "50 % of the volume" in found.text()
    for damaged in (None, {}, [], {**found.to_dict(), "more": 1}, {"views": "x"}):
        assert Fit.from_dict(damaged) is None
