"""Spans of time lie where the work was, and what is not in the log is left out."""

from typing import Any

import pytest

from ddgm_dist.inspection.activity import activities

STEP: dict[str, Any] = {
    "event": "step", "session": "s", "tile": "t", "iteration": 0, "worker": "w", "started": 100.0,
    "seconds": {"gradient": 2.0, "noise": 0.5, "denoise": 3.0},
}  # fmt: skip


def test_phases_of_a_step_follow_each_other_and_what_came_before_lies_before() -> None:
    more = {"read": 4.0, "setup": 1.0, "wait": 10.0, "exchange": 0.25, "restore": 2.0}
    (found,) = activities([STEP | {"seconds": STEP["seconds"] | more}])
    assert found.spans["w"] == {
        "setup": [(82.75, 83.75)],
        "read": [(83.75, 87.75)],
        "exchange": [(97.75, 98.0)],
        "restore": [(98.0, 100.0)],
        "gradient": [(100.0, 102.0)],
        "noise": [(102.0, 102.5)],
        "denoise": [(102.5, 105.5)],
    }
    assert found.extent() == (82.75, 105.5)
    assert found.busy("w") == (7.75, 105.5 - 82.75)


def test_a_tile_that_ran_alone_is_written_after_its_last_step() -> None:
    seconds = {"read": 1.0, "wait": 9.0, "gradient": 2.0, "other": 0.5, "write": 0.25}
    tile = {"event": "tile", "session": "s", "tile": "t", "worker": "w", "started": 80.0}
    (found,) = activities([STEP, tile | {"seconds": seconds}])
    assert found.spans["w"]["read"] == [(80.0, 81.0)]
    assert found.spans["w"]["write"] == [(106.0, 106.25)]
    assert len(found.spans["w"]["gradient"]) == 1


def test_a_coupled_tile_is_blended_and_written_when_it_is_finished() -> None:
    seconds = {"read": 0.0, "wait": 1.0, "exchange": 2.0, "other": 0.5, "write": 3.0}
    tile = {"event": "tile", "session": "s", "tile": "t", "worker": "w", "started": 200.0}
    (found,) = activities([tile | {"seconds": seconds}])
    assert found.spans["w"] == {"exchange": [(201.0, 203.0)], "write": [(203.5, 206.5)]}


def test_sessions_and_faults() -> None:
    fault = {"event": "fault", "session": "b", "worker": "", "time": 300.0}
    save = {"event": "save", "session": "b", "worker": "v", "started": 290.0, "seconds": 2.0}
    first, second = activities([STEP, fault, save])
    assert (first.session, second.session) == ("s", "b")
    assert second.faults == [(300.0, "")]
    assert second.spans == {"v": {"save": [(290.0, 292.0)]}}
    assert second.extent() == (290.0, 300.0)


@pytest.mark.parametrize(
    "line",
    [
        {},
        {"event": "step"},
        STEP | {"started": None},
        STEP | {"worker": None},
        STEP | {"seconds": None},
        STEP | {"seconds": {"gradient": None, "denoise": "x", "noise": -1.0}},
        {"event": "fault", "time": None},
        {"event": "of a later version", "started": 5.0, "worker": "w"},
    ],
)
def test_lines_that_tell_nothing_are_left_out(line: dict[str, Any]) -> None:
    assert activities([line]) == []
