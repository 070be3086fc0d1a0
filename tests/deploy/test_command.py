"""The job's command: what the command line takes, and what survives two shells."""

import shlex
from dataclasses import fields, replace
from typing import Any

import pytest
import typer

from ddgm_dist.cli.app import create_app
from ddgm_dist.cli.run_options import ProblemOptions
from ddgm_dist.core.units import MIB, parse_bytes
from ddgm_dist.deploy.command import Run, reconstruct_command
from ddgm_dist.deploy.rayjob import rayjob_entrypoint
from ddgm_dist.deploy.resources import Resources
from ddgm_dist.errors import InputError
from tests.deploy.kuberay import NEEDS, RUN

OPTIONS = ProblemOptions(thickness=64, impute_nonfinite=True, no_despike=True, verify_input=True)
FULL = Run("/d/t.zarr", "/d/v.zarr", "/d/run.yaml", ("samples=8", "planes=zx,zy"), OPTIONS.words())


@pytest.mark.parametrize(("run", "options"), [(RUN, ProblemOptions()), (FULL, OPTIONS)])
def test_the_command_line_takes_it_as_it_is_meant(run: Run, options: ProblemOptions) -> None:
    group = typer.main.get_command(create_app())
    words = shlex.split(rayjob_entrypoint(run, NEEDS))
    assert words[:2] == ["ddgm-dist", "reconstruct"]
    command: Any = group.commands["reconstruct"]  # type: ignore[attr-defined]
    found = command.make_context("reconstruct", words[2:]).params
    assert (str(found["tilts"]), str(found["out"])) == (run.tilts, run.out)
    assert (found["engine"], found["address"], found["workers"]) == ("ray", "auto", 8)
    assert str(found["config"] or "") == run.config
    assert tuple(found["overrides"] or ()) == run.overrides
    apart = {"config": found["config"], "overrides": found["overrides"]}
    names = [field.name for field in fields(ProblemOptions)]
    assert ProblemOptions(**{name: found[name] for name in names}) == replace(options, **apart)
    # A retry is the same command: it must never begin anew.
    assert found["overwrite"] is False
    # Without a terminal a line now and then tells how far it is: the log is all that there is.
    assert found["quiet"] is False


@pytest.mark.parametrize("memory", [MIB, MIB + 1, 3 * 2**30, 3 * 2**30 - 1])
def test_the_command_asks_for_the_memory_that_was_counted(memory: int) -> None:
    words = reconstruct_command(RUN, Resources(1, 1, 1, memory))
    assert parse_bytes(words[words.index("--memory") + 1]) == memory


@pytest.mark.parametrize("word", ["a b", "$HOME", "a;b", "`id`", "a'b", "*"])
def test_words_that_a_shell_would_change_are_refused(word: str) -> None:
    with pytest.raises(InputError, match="two shells"):
        rayjob_entrypoint(Run(f"/data/{word}", "/data/v.zarr"), NEEDS)
    with pytest.raises(InputError, match="two shells"):
        rayjob_entrypoint(Run("/data/t.zarr", "/data/v.zarr", overrides=(word,)), NEEDS)


@pytest.mark.parametrize("store", ["tilts.zarr", "./t.zarr", "", "-x", "/a\nb"])
def test_stores_that_nodes_would_not_find_are_refused(store: str) -> None:
    with pytest.raises(InputError):
        Run(store, "/data/v.zarr")
    with pytest.raises(InputError):
        Run("/data/t.zarr", store)
