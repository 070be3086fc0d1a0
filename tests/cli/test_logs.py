"""Log records for people and for machines, and a process left as it was found."""

import json
import logging
from collections.abc import Iterator

import pytest

from ddgm_dist.cli import main
from ddgm_dist.cli.logs import JsonFormatter, TextFormatter, set_up_logging

LOG = logging.getLogger("ddgm_dist")


@pytest.fixture(autouse=True)
def unchanged() -> Iterator[None]:
    before = (list(LOG.handlers), LOG.level, LOG.propagate)
    yield
    assert (list(LOG.handlers), LOG.level, LOG.propagate) == before


def record(**fields: object) -> logging.LogRecord:
    return LOG.makeRecord(
        "ddgm_dist.engine", logging.WARNING, "f", 1, "lost %s\nand more", ("a",), None, None, fields
    )


def test_a_line_of_json_has_the_fields_that_the_record_has() -> None:
    line = JsonFormatter().format(record(tile="y0", iteration=0, worker=""))
    assert "\n" not in line
    found = json.loads(line)
    assert found.pop("time").endswith("Z")
    assert found == {
        "level": "warning",
        "logger": "ddgm_dist.engine",
        "message": "lost a\nand more",
        "tile": "y0",
        "iteration": 0,
    }


def test_a_line_for_people() -> None:
    line = TextFormatter().format(record(tile="y0", iteration=None, worker="worker-3"))
    assert line.endswith(" WARNING lost a\nand more [tile y0, worker worker-3]")
    assert "[" not in TextFormatter().format(record())


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_the_stack_is_kept(formatter: logging.Formatter) -> None:
    try:
        raise ZeroDivisionError
    except ZeroDivisionError as error:
        made = record()
        made.exc_info = (type(error), error, error.__traceback__)
    assert "ZeroDivisionError" in formatter.format(made)


def test_the_level_decides_and_standard_error_takes_it(capsys: pytest.CaptureFixture[str]) -> None:
    undo = set_up_logging("info", as_json=False)
    LOG.getChild("engine").debug("too little")
    LOG.getChild("engine").info("enough")
    undo()
    LOG.info("after")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "INFO enough" in err


def test_the_program_sets_up_what_was_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def simulate(*_: object, **__: object) -> None:
        LOG.info("within", extra={"tile": "t", "iteration": 2, "worker": "w"})
        raise KeyboardInterrupt

    import importlib

    monkeypatch.setattr(
        importlib.import_module("ddgm_dist.simulation.simulate"), "simulate", simulate
    )
    words = ["--log-level", "info", "--log-json", "simulate", "v.zarr", "t.zarr"]
    assert main(words) == 130
    line = json.loads(capsys.readouterr().err.splitlines()[0])
    assert (line["message"], line["tile"], line["iteration"]) == ("within", "t", 2)
    assert main(["simulate", "v.zarr", "t.zarr"]) == 130
    assert "within" not in capsys.readouterr().err
    assert main(["--log-level", "loud", "simulate", "v.zarr", "t.zarr"]) == 2
