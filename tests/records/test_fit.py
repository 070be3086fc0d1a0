"""The verdict: noise of any level is explained, structure in the residual is not."""

import json
import math

import pytest

from ddgm_dist.core.intensity import Intensity
from ddgm_dist.core.view_names import ViewNames
from ddgm_dist.core.view_sums import ViewSums
from ddgm_dist.records.fit import Fit
from ddgm_dist.records.fit_causes import Beam

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
    names: ViewNames | None = None,
    beam: Beam = "unknown",
) -> Fit:
    """Views with white noise and a misfit that correlates; some views have another misfit."""
    each = [(bad or {}).get(view, misfit) for view in range(1, VIEWS + 1)]
    sums = ViewSums(
        tuple((noise**2 + m**2) * SAMPLES for m in each),
        (SAMPLES,) * VIEWS,
        ((contrast**2 + noise**2) * SAMPLES,) * VIEWS,
        tuple(correlation * m**2 * SAMPLES for m in each),
    )
    found = Fit.judge(sums, intensity, coverage, names=names, beam=beam)
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
    order = ["aligned", "counts", "signs", "thickness", "bad"]
    assert [word in cause for word, cause in zip(order, found.causes, strict=True)] == [True] * 5
    text = found.text()
    places = [text.index(cause) for cause in found.causes]
    assert places == sorted(places)
    assert (
        "\nworst views: 1, 2, 3, 4, 5, ...; views are numbered from 1 as they are stored\n" in text
    )


@pytest.mark.parametrize("bad", [{}, {4: 1.5}], ids=["all", "few"])
def test_a_warning_is_one_sentence_with_three_causes(bad: dict[int, float]) -> None:
    found = verdict(misfit=0.0 if bad else 1.2, bad=bad)
    warning = found.warning() or ""
    assert "\n" not in warning
    assert warning.startswith(found.summary())
    assert len(warning) < 400
    assert [f"({n}) {cause}" in warning for n, cause in enumerate(found.causes, start=1)] == (
        [True] * 3 + [False] * (len(found.causes) - 3)
    )


def test_the_values_come_first_where_nothing_of_the_contrast_is_explained() -> None:
    """Counts, inverted contrast and a wrong beam leave half of the contrast and more."""
    ours = "the values are counts, their contrast is inverted, or the beam was estimated wrongly"
    assert verdict(misfit=1.2, contrast=6.0).causes[1].startswith(ours)
    assert verdict(misfit=1.8).causes[0].startswith(ours)
    assert "ingest --counts I0" in verdict(misfit=1.8).causes[0]


def test_a_beam_that_was_estimated_is_doubted_early() -> None:
    little = verdict(misfit=1.2, contrast=6.0, beam="estimated")
    assert little.causes[1].startswith("the beam was estimated wrongly")
    assert verdict(misfit=1.8, beam="estimated").causes[0].startswith("the beam was estimated")
    assert "ingest --counts I0" in (little.warning() or "")
    assert verdict(bad={4: 1.5}, beam="estimated").causes[1].startswith("the beam was estimated")
    given = verdict(misfit=1.2, beam="given").causes
    assert not any("estimated" in cause for cause in given)
    assert any("the beam is not that of ingest --counts" in cause for cause in given)
    assert verdict(beam="estimated").causes == ()


def test_views_are_named_as_in_their_source() -> None:
    names = ViewNames(tuple(float(a) for a in range(-20, 20, 2)), tuple(range(31, 51)))
    found = verdict(bad={4: 1.5, 11: 2.0}, names=names)
    assert found.bad == (41, 34)
    assert found.bad_indices == (10, 3)
    assert "views that do not fit: 41 (+0 degrees), 34 (-14 degrees)\n" in found.text()
    assert "numbered" not in found.text()
    kept = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert kept["bad"] == [41, 34]
    assert kept["bad_indices"] == [10, 3]
    assert kept["view_numbers"] == list(range(31, 51))
    assert Fit.from_dict(kept) == found


def test_a_file_of_a_former_version() -> None:
    """It numbered the stored views from 1, and knew of no source."""
    kept = verdict(bad={4: 1.5}).to_dict()
    for key in ("worst_indices", "bad_indices", "view_numbers", "angles_deg", "causes", "beam"):
        del kept[key]
    assert Fit.from_dict(kept) == verdict(bad={4: 1.5})


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
    assert "views that do not fit: 11, 4;" in found.text()
    assert "(1) single views are bad" in (found.warning() or "")
    assert "(2) the views are not aligned" in (found.warning() or "")


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
