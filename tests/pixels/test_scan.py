"""What a scan sees in a series: named and placed, however the series is cut into blocks."""

import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddgm_dist.core.geometry import Geometry
from ddgm_dist.core.view_names import ViewNames
from ddgm_dist.pixels.artifacts import Artifacts
from ddgm_dist.pixels.hot_pixels import HotThreshold
from ddgm_dist.pixels.observations import Observations
from ddgm_dist.pixels.scan import Scan
from ddgm_dist.simulation.projector import project

TILTS, ROWS, FIELD = 9, 20, 50
ANGLES = tuple(float(a) for a in range(-40, 41, 10))
# The source's first view was left out.
NAMES = ViewNames(ANGLES, tuple(range(2, TILTS + 2)))


def series(seed: int = 0) -> np.ndarray:
    r = np.random.default_rng(seed)
    return (100 + 5 * r.standard_normal((TILTS, ROWS, FIELD))).astype(np.float32)


def look(data: np.ndarray, boundary="extended", steps=(TILTS, ROWS, FIELD), read=True) -> Artifacts:
    probes = HotThreshold(1)
    probes.add(data)
    scan = Scan(data.shape, probes.value(), (lambda y, u, t: data[t, y, u]) if read else None)
    for y in range(0, data.shape[1], steps[1]):
        for u in range(0, data.shape[2], steps[2]):
            for t in range(0, data.shape[0], steps[0]):
                block = data[t : t + steps[0], y : y + steps[1], u : u + steps[2]]
                scan.add((t, y, u), block)
    tilts, rows, field = data.shape
    geometry = Geometry(ANGLES[:tilts], 6, rows, field, boundary=boundary or "extended")
    return judged(scan, probes, geometry, known=boundary is not None)


def judged(scan: Scan, probes: HotThreshold, geometry: Geometry, known: bool = True) -> Artifacts:
    """What is found, through JSON: nothing is lost there."""
    found = scan.observations(probes.probes)
    again = Observations.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again.judge(geometry, known=known) == found.judge(geometry, known=known)
    return again.judge(geometry, known=known)


def kinds(seen: Artifacts) -> dict[str, int]:
    return {f.kind: f.count for f in seen.findings(NAMES, masked="masked")}


def test_nothing_is_said_of_clean_data() -> None:
    seen = look(series())
    assert seen.screen() is None
    assert kinds(seen) == {}


def test_every_fault_is_named_and_placed() -> None:
    data = series()
    data[2, 7, 9] = 1e5
    data[:, :, :3] = 7
    data[4] = data[5, 11:13] = 0
    seen = look(data)
    found = {f.kind: f for f in seen.findings(NAMES, masked="masked")}
    assert kinds(seen) == {
        "hot-pixels": 1,
        "blank-views": 1,
        "blank-rows": 2,
        "filled-edges": TILTS - 1,
    }
    assert found["hot-pixels"].places == ((2, 7, 9),)
    assert "view 4 (-20 degrees), row 7, column 9 (rows and columns from 0): masked" in (
        found["hot-pixels"].text
    )
    assert "view 6 (+0 degrees): masked" in found["blank-views"].text
    assert "view 7 (+10 degrees), rows 11 to 12 (rows from 0): masked" in found["blank-rows"].text
    edges = found["filled-edges"].text
    assert "(7): view 2 (-40 degrees), rows 0 to 19, columns 0 to 2; view 3 " in edges
    assert found["hot-pixels"].to_dict()["array_indices"] == ((2, 7, 9),)
    assert [found[k].views for k in ("hot-pixels", "blank-views", "blank-rows")] == [
        (4,),
        (6,),
        (7,),
    ]
    assert found["filled-edges"].to_dict()["views"] == (2, 3, 4)
    assert all("\n" not in f.text for f in found.values())
    screen = seen.screen()
    assert screen is not None
    bad = ~screen.good(data, 0, (0,) * TILTS)
    expected = np.zeros_like(bad)
    expected[2, 7, 9] = expected[4] = expected[5, 11:13] = expected[:, :, :3] = True
    np.testing.assert_array_equal(bad, expected)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    steps=st.tuples(st.integers(2, TILTS), st.integers(2, ROWS), st.integers(4, FIELD)),
    seed=st.integers(0, 9),
)
def test_blocks_of_any_size_show_the_same(steps: tuple[int, int, int], seed: int) -> None:
    r, data = np.random.default_rng(seed), series(seed)
    data[r.random(data.shape) < 0.003] = 1e4
    data[int(r.integers(TILTS))] = 3
    data[1, int(r.integers(ROWS))] = 0
    data[3, :, : int(r.integers(1, 30))] = 0
    data[6, :, int(r.integers(20, FIELD)) :] = 0
    assert look(data, steps=steps) == look(data)


def test_at_the_ends_of_rows_vacuum_is_data() -> None:
    data = series()
    data[:, :, :15] = data[:, :, -15:] = 0
    data[:, :4] = 0
    assert kinds(look(data, "vacuum")) == {}
    assert kinds(look(data, None)) == {}  # what half of the pixels are is no fault
    assert "filled-edges" in kinds(look(data, "extended"))


@pytest.mark.parametrize("boundary", ["extended", "vacuum", None])
def test_counts_of_zero_are_data(boundary) -> None:
    counts = np.random.default_rng(0).poisson(0.02, (TILTS, ROWS, FIELD)).astype(np.float32)
    assert look(counts, boundary).screen() is None


def test_a_view_without_a_beam_is_blank_although_it_is_noisy() -> None:
    data = series()
    data[3] = 0.5 * np.random.default_rng(1).standard_normal((ROWS, FIELD))
    assert look(data).blank == (3,)
    data[3] += 100  # as bright as the others: a part of the specimen that is even
    assert look(data).blank == ()


def test_how_views_are_numbered_is_said_once_where_the_source_does_not_say_it() -> None:
    data = series()
    data[2, 7, 9] = 1e5
    data[4] = 0
    found = look(data).findings(ViewNames(ANGLES), masked="masked")
    assert [f.views for f in found] == [(3,), (5,)]
    assert ["numbered from 1 as they are stored" in f.text for f in found] == [True, False]
    known = look(data).findings(NAMES, masked="masked")
    assert not any("numbered" in f.text for f in known)


def test_what_few_views_tell_of_is_left() -> None:
    """Rows that most of the views lack, and most of the views themselves: nothing is made up."""
    data = series()
    data[:6, 3] = 0
    seen = look(data)
    assert seen.screen() is None
    assert "left as they are" in seen.findings(NAMES, masked="masked")[0].text
    data[0, 5] = 0
    text = look(data).findings(NAMES, masked="masked")[0].text
    assert "1 of them masked" in text
    data[:5] = 0
    seen = look(data)
    assert len(seen.blank) == 5
    assert not any(p[3] - p[2] == ROWS for p in getattr(seen.screen(), "patches", ()))


def test_words_are_few_however_much_there_is() -> None:
    data = series()
    data[np.random.default_rng(0).random(data.shape) < 0.004] = 1e5
    (finding,) = look(data).findings(NAMES, masked="masked")
    assert finding.count > 20
    assert len(finding.places) == 3
    assert len(finding.text) < 250
    assert finding.to_dict()["kind"] == "hot-pixels"


def slab_with_margins(empty: int, counts: float | None = None) -> tuple[np.ndarray, Geometry]:
    """A slab whose vertical ends lie in the field: ``empty`` columns before each at zero tilt."""
    angles = tuple(float(a) for a in range(-60, 61, 6))
    r = np.random.default_rng(0)
    volume = (1 + 0.3 * r.standard_normal((16, 12, 240))).clip(0).astype(np.float32)
    volume[:, :, :empty] = volume[:, :, 240 - empty :] = 0
    data = project(volume, angles, n_u=240)
    if counts is not None:
        data = r.poisson(data.clip(0) * counts).astype(np.float32)
    return data.astype(np.float32), Geometry(angles, 16, 12, 240)


def seen_in(data: np.ndarray, geometry: Geometry, known: bool = True) -> Artifacts:
    probes = HotThreshold(1)
    probes.add(data)
    scan = Scan(data.shape, probes.value())
    scan.add((0, 0, 0), data)
    return judged(scan, probes, geometry, known=known)


@pytest.mark.parametrize("counts", [None, 0.02, 1.0, 200.0])
@pytest.mark.parametrize("empty", [3, 5, 40])
@pytest.mark.parametrize("known", [True, False])
def test_vacuum_beside_a_slab_is_not_masked(empty: int, counts: float | None, known: bool) -> None:
    """Exact zeros beside a specimen are ordinary. They are told, at most."""
    data, geometry = slab_with_margins(empty, counts)
    seen = seen_in(data, geometry, known)
    assert seen.screen() is None
    for finding in seen.findings(ViewNames(geometry.angles_deg), masked="masked"):
        assert "may be vacuum beside the specimen" in finding.text


@pytest.mark.parametrize("value", [0.0, 100.0, 1e4])
def test_filled_edges_are_masked_if_even_or_uneven(value: float) -> None:
    """As alignment leaves them: equal in all views, or by how far each view was moved."""
    angles = tuple(float(a) for a in range(-60, 61, 6))
    geometry = Geometry(angles, 16, 12, 240)
    clean = 100 + 5 * np.random.default_rng(0).standard_normal((21, 12, 240)).astype(np.float32)
    for widths in ([3] * 21, np.random.default_rng(1).integers(0, 12, 21).tolist()):
        data, expected = clean.copy(), np.zeros(clean.shape, dtype=bool)
        for tilt, width in enumerate(widths):
            data[tilt, :, :width] = value
            expected[tilt, :, : width if width >= 3 else 0] = True
        screen = seen_in(data, geometry).screen()
        assert screen is not None
        np.testing.assert_array_equal(~screen.good(data, 0, (0,) * 21), expected)
    # Wider than alignment leaves, or of one value by chance of the angles: told, no more.
    for tilts, width in ((slice(None), 20), (slice(9, 12), 3)):
        data = clean.copy()
        data[tilts, :, :width] = value
        some = seen_in(data[tilts], Geometry(angles[tilts], 16, 12, 240))
        assert some.screen() is None
        assert len(some.unsure) == len(some.edges) > 0


def test_rows_of_vacuum_are_data_in_few_views_too() -> None:
    """A view that was moved along y shows rows beside the specimen."""
    data = series()
    data[:, :, 5:25] = 0
    data[2, 4] = 0
    assert look(data).rows == ()


def test_quiet_views_of_a_normalised_series_are_not_blank() -> None:
    data = (series() - 100) / 5
    data[3] *= 0.1
    data[5] = data[5] * 0.1 + 0.1
    assert look(data).blank == ()


def points_in_a_vacuum() -> tuple[np.ndarray, Geometry]:
    angles = tuple(float(a) for a in range(-60, 61, 4))
    r, volume = np.random.default_rng(0), np.zeros((16, 40, 200), np.float32)
    volume[r.integers(0, 16, 25), r.integers(0, 40, 25), r.integers(0, 200, 25)] = 1
    return project(volume, angles, n_u=200).astype(np.float32), Geometry(angles, 16, 40, 200)


def test_points_of_a_specimen_are_told_not_masked() -> None:
    """As small as a hot pixel, but in every view: 25 points were all that there is, and all masked."""
    data, geometry = points_in_a_vacuum()
    seen = seen_in(data, geometry)
    assert seen.screen() is None
    (finding,) = seen.findings(ViewNames(geometry.angles_deg), masked="masked")
    assert finding.kind == "hot-pixels"
    assert "left as they are" in finding.text
    assert "small points of a specimen" in finding.text
    free = np.setdiff1d(np.arange(40), [y for a, b in seen.spared for y in range(a - 2, b + 2)])
    data[7, free[0], 90] = 100
    screen = seen_in(data, geometry).screen()
    assert screen is not None
    assert np.argwhere(~screen.good(data, 0, (0,) * len(data))).tolist() == [[7, free[0], 90]]


def test_more_than_faults_could_be_are_what_the_data_are() -> None:
    data = series()
    data[np.random.default_rng(0).random(data.shape) < 0.02] = 1e4
    probes = HotThreshold(1)
    probes.add(series())
    scan = Scan((TILTS * 10, ROWS, FIELD), probes.value())
    for t in range(0, TILTS * 10, TILTS):
        scan.add((t, 0, 0), data)
    geometry = Geometry(tuple(np.linspace(-60, 60, TILTS * 10).tolist()), 6, ROWS, FIELD)
    seen = scan.observations(probes.probes * 10).judge(geometry)
    assert seen.screen() is None
    (finding,) = seen.findings(ViewNames(geometry.angles_deg), masked="masked")
    assert "no faults but what the data are" in finding.text


def test_little_is_read_again_however_much_may_be_hot() -> None:
    """Few counts: nearly every block has pixels at its ends that may be hot. None but these are read."""
    counts = np.random.default_rng(0).poisson(2, (3, 120, 400)).astype(np.float32)
    again = list[int]()

    def read(y: slice, u: slice, t: slice) -> np.ndarray:
        again.append(counts[t, y, u].size)
        return counts[t, y, u]

    scan = Scan(counts.shape, 5.0, read)
    for y in range(0, 120, 40):
        for u in range(0, 400, 100):
            scan.add((0, y, u), counts[:, y : y + 40, u : u + 100])
    assert 0 < sum(again) < 0.4 * counts.size


def test_looking_takes_little_memory_however_much_may_be_hot() -> None:
    """A threshold that is far too low: all pixels of a block may be hot."""
    block = np.random.default_rng(0).normal(100, 60, (20, 64, 1024)).astype(np.float32)
    scan = Scan(block.shape, 4.0)
    tracemalloc.start()
    try:
        scan.add((0, 0, 0), block)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 80 * 2**20
