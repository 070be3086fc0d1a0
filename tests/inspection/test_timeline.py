"""The picture shows how much of its time each worker spent on what."""

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddgm_dist.errors import InputError
from ddgm_dist.inspection.timeline import COLOURS, column_shares, draw_timeline
from ddgm_dist.records.run_record import RunRecord

TIMES = st.floats(0, 20, allow_nan=False)


@given(st.lists(st.tuples(TIMES, TIMES), max_size=30))
def test_cover_of_columns_adds_up(pairs: list[tuple[float, float]]) -> None:
    spans = np.array([sorted(pair) for pair in pairs]).reshape(-1, 2)
    got = column_shares(spans, 20)
    columns = np.arange(20)
    expected = np.clip(
        np.minimum(spans[:, 1:], columns + 1) - np.maximum(spans[:, :1], columns), 0, 1
    ).sum(axis=0)
    np.testing.assert_allclose(got, expected, atol=1e-9)


def colour_shares(png: Path) -> dict[str, float]:
    """Share of the picture that has each phase's colour, pure."""
    image = matplotlib.image.imread(png)[..., :3]
    return {
        phase: float(np.isclose(image, colour, atol=0.01).all(axis=-1).mean())
        for phase, colour in COLOURS.items()
    }


def test_what_was_done_is_seen_and_a_day_between_two_sessions_is_not(tmp_path: Path) -> None:
    record, shares = RunRecord(tmp_path / "out.zarr"), []
    for session, start in (("a", 1e9), ("b", 1e9 + 86400)):
        line = {"event": "step", "session": session, "tile": "t", "iteration": 0, "worker": "w"}
        seconds = {"gradient": 10.0, "denoise": 30.0}
        record.append_events(session, [line | {"started": start, "seconds": seconds}])
        draw_timeline(tmp_path / "out.zarr", tmp_path / "t.png")
        shares.append(colour_shares(tmp_path / "t.png"))
    for found in shares:
        # Beside the lane there is the patch in the legend.
        assert found["denoise"] == pytest.approx(3 * found["gradient"], rel=0.2)
    assert shares[1]["denoise"] == pytest.approx(shares[0]["denoise"], rel=0.05)


def test_a_lost_worker_and_one_that_did_nothing(tmp_path: Path) -> None:
    record = RunRecord(tmp_path / "out.zarr")
    with pytest.raises(InputError, match="no log"):
        draw_timeline(tmp_path / "out.zarr", tmp_path / "t.png")
    lost = {"event": "fault", "session": "a", "worker": "never", "time": 1e9}
    record.append_events("a", [lost])
    with pytest.raises(InputError, match="no log"):
        draw_timeline(tmp_path / "out.zarr", tmp_path / "t.png")
    save = {"event": "save", "session": "a", "worker": "w", "started": 1e9, "seconds": 1.0}
    record.append_events("a", [save, lost | {"worker": "w", "time": 1e9 + 0.5}])
    draw_timeline(tmp_path / "out.zarr", tmp_path / "t.png")
    image = matplotlib.image.imread(tmp_path / "t.png")[..., :3]
    red = np.isclose(image, (0.816, 0, 0), atol=0.02).all(axis=-1)
    assert red.sum(axis=0).max() > 20  # a mark across the lane; the one in the legend lies flat
    assert colour_shares(tmp_path / "t.png")["save"] > 0.01
