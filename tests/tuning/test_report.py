"""What tuning shows and writes."""

import math
from pathlib import Path

import pytest
import yaml

from ddgm_dist.errors import InputError
from ddgm_dist.tuning.report import Row, check_target, to_table, write_config


def row(name: str, error: float, *, chosen: bool = False) -> Row:
    return Row(name, {}, 50, 4, error, 0.1, 0.2, None, error, math.nan, None, chosen=chosen)


def test_the_table_is_aligned_and_marks_the_chosen() -> None:
    lines = to_table([row("K=100", 0.1, chosen=True), row("as given", 0.2)]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert [line[0] for line in lines] == [" ", "*", " "]


def test_what_is_not_finite_is_null_in_json() -> None:
    values = row("K=100", math.inf).to_dict()
    assert (values["error"], values["deviation"], values["calls"]) == (None, None, 50)


def test_a_configuration_is_written_whole(tmp_path: Path) -> None:
    out = tmp_path / "c.yaml"
    values = {"K": 25.0, "step_rule": "paper", "planes": ["zx"]}
    write_config(out, values, ["one", "two: three"])
    assert yaml.safe_load(out.read_text()) == values
    assert out.read_text().startswith("# one\n# two: three\n")
    with pytest.raises(yaml.YAMLError):
        write_config(out, {"K": object()}, [])
    assert yaml.safe_load(out.read_text()) == values
    assert list(tmp_path.iterdir()) == [out]


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    check_target(tmp_path / "new.yaml", overwrite=False)
    (tmp_path / "old.yaml").touch()
    check_target(tmp_path / "old.yaml", overwrite=True)
    for out in (tmp_path, tmp_path / "old.yaml", tmp_path / "none" / "c.yaml"):
        with pytest.raises(InputError, match="out = "):
            check_target(out, overwrite=False)
