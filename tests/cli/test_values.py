"""Values and configurations as they are written on the command line."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddgm_dist.cli.config import read_config
from ddgm_dist.cli.values import even_angles, parse_angles, parse_slice
from ddgm_dist.errors import InputError


@given(st.integers(-80, 80), st.integers(1, 40), st.sampled_from([0.1, 0.3, 0.7, 1, 2, -2.5]))
def test_a_range_of_angles_has_both_ends(start: int, steps: int, step: float) -> None:
    angles = parse_angles(f"{start}:{start + steps * step!r}:{step}")
    assert isinstance(angles, tuple)
    assert len(angles) == steps + 1
    assert angles[0] == start
    assert angles[-1] == pytest.approx(start + steps * step, abs=1e-9)


def test_a_range_stops_before_an_end_that_it_does_not_meet() -> None:
    assert parse_angles("0:5:2") == (0, 2, 4)


def test_single_angles_and_lists() -> None:
    assert parse_angles("0") == (0,)
    assert parse_angles("-60, 1e1,60") == (-60, 10, 60)


def test_a_file_comes_back_as_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("12").write_text("1\n2\n3\n")
    assert parse_angles("12") == Path("12")


@pytest.mark.parametrize(
    "text", ["0:10", "10:0:1", "0:10:0", "0:1e9:1", "0:1:2,3", "1.2.3", "a.tlt", ""]
)
def test_angles_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match="--angles"):
        parse_angles(text)


def test_even_angles() -> None:
    assert even_angles(1, 60) == (0,)
    assert even_angles(5, 60) == (-60, -30, 0, 30, 60)


@pytest.mark.parametrize(
    ("text", "rows"), [("0:8", slice(0, 8)), (":8", slice(0, 8)), ("3:", slice(3, None))]
)
def test_slices(text: str, rows: slice) -> None:
    assert parse_slice(text, "--rows") == rows


@pytest.mark.parametrize("text", ["", "8", "4:4", "5:4", "-3:4", "a:b", "0:8:2"])
def test_slices_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match="--rows"):
        parse_slice(text, "--rows")


@pytest.mark.parametrize(
    ("overrides", "config"),
    [
        ([], {}),
        (["K=15"], {"K": 15}),
        (["K=15", "K=20"], {"K": 20}),
        (["eta=9e-5", "sigma=1.E+1"], {"eta": 9e-5, "sigma": 10.0}),
        (["rule=noise-aware", "seed=null"], {"rule": "noise-aware", "seed": None}),
        (["a.b.c=[1, 2]", "a.d=x=y"], {"a": {"b": {"c": [1, 2]}, "d": "x=y"}}),
    ],
)
def test_overrides(overrides: list[str], config: dict[str, Any]) -> None:
    assert read_config(None, overrides) == config


def test_a_file_with_overrides_on_top(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("N: 50\neta: 1e-4\nprior:\n  weights: w\n")
    assert read_config(file, ["prior.window=64", "N=10"]) == {
        "N": 10,
        "eta": 1e-4,
        "prior": {"weights": "w", "window": 64},
    }
    file.write_text("# nothing\n")
    assert read_config(file, []) == {}


@pytest.mark.parametrize("content", ["- a\n- b\n", "1: 2\n", "a: [", "!!python/name:os.system x"])
def test_a_file_that_is_no_configuration(content: str, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(content)
    with pytest.raises(InputError, match="--config"):
        read_config(file, [])


@pytest.mark.parametrize("override", ["K", "=1", "a.=1", ".a=1", "K={"])
def test_an_override_that_is_none(override: str) -> None:
    with pytest.raises(InputError, match="--set"):
        read_config(None, [override])


def test_an_override_does_not_descend_into_a_value() -> None:
    with pytest.raises(InputError, match="'K' is a value"):
        read_config(None, ["K=1", "K.a=2"])
