"""The options of a reconstruction are written once, and all commands that take them have them."""

from dataclasses import dataclass, fields
from typing import Annotated, Any

import pytest
import typer
from typer.main import get_command

from ddgm_dist.cli import run_options
from ddgm_dist.cli.app import create_app
from ddgm_dist.cli.run_options import ProblemOptions, WorkerOptions, with_options

PROBLEM = ("plan", "tune", "reconstruct", "submit", "rayjob", "raycluster", "slurm")
WORKERS = tuple(name for name in PROBLEM if name != "tune")


def commands() -> dict[str, Any]:
    group: Any = get_command(create_app())
    return {**group.commands, **group.commands["manifest"].commands}


@pytest.mark.parametrize(
    ("kind", "names"), [(ProblemOptions, PROBLEM), (WorkerOptions, WORKERS)], ids=["problem", "on"]
)
def test_every_command_has_every_option_of_its_lists(kind: type, names: tuple[str, ...]) -> None:
    found = commands()
    for field in fields(kind):
        alike = {
            (tuple(p.opts), p.help, p.metavar)
            for name in names
            for p in found[name].params
            if p.name == field.name
        }
        assert len(alike) == 1, field.name
        assert all(field.name in {p.name for p in found[name].params} for name in names)


@dataclass(frozen=True)
class More(ProblemOptions):
    """With an option that is added once."""

    added: Annotated[str | None, typer.Option("--added-option", help="Added.")] = None


def test_an_option_added_to_the_list_reaches_the_command_and_a_jobs_command_line() -> None:
    got = list[More]()

    def command(name: str, problem: More) -> None:
        got.append(problem)

    app = typer.Typer()
    app.command()(with_options(command))
    words = ["x", "--added-option", "a b", "--thickness", "3", "--no-despike", "--set", "K=1"]
    app(words, standalone_mode=False)
    app(["x", *got[0].words()], standalone_mode=False)
    assert got[0] == More(overrides=["K=1"], thickness=3, no_despike=True, added="a b")
    assert got[1] == More(thickness=3, no_despike=True, added="a b")
    assert got[0].words() == ("--thickness", "3", "--no-despike", "--added-option", "a b")


def test_options_of_the_result_are_keys_of_the_configuration() -> None:
    given = ProblemOptions(None, ["thickness=5", "despike=true"], 7, True, True)
    assert given.keys() == {"thickness": 7, "impute_nonfinite": True, "despike": False}
    assert run_options.ProblemOptions().keys() == {}
    named = ProblemOptions(overrides=["preset=best", "N=5"], preset="fast")
    assert named.keys() == {"preset": "fast", "N": 5}
    assert named.words() == ("--preset", "fast")
