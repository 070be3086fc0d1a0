"""Batch scripts as text: quoting, directives, ports, what is refused. test_slurm_runs runs them."""

import itertools
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ddgm_dist.cli import main
from ddgm_dist.core.units import GIB
from ddgm_dist.deploy.command import Run, reconstruct_command
from ddgm_dist.deploy.resources import Resources
from ddgm_dist.deploy.site import SiteProfile, parse_site
from ddgm_dist.deploy.slurm import read_batch, render_sbatch
from ddgm_dist.deploy.slurm_checks import seconds_of
from ddgm_dist.errors import InputError
from tests.deploy.test_kubernetes import REPOSITORY, regenerate

RUN = Run("/data/tilts.zarr", "/data/volume.zarr")
NEEDS = Resources(workers=4, tiles=21, cpus=8, memory=4 * GIB)
ON_GPUS = replace(NEEDS, gpus=1, cpus=4)
SHELLCHECK = Path(sys.executable).with_name("shellcheck")
# Checks that cannot hold here. They concern files of the site, functions that traps and other shells
# call, and an expression in single quotes, which the nodes' shells expand.
EXCLUDE = "--exclude=SC1091,SC2329,SC2016"


def site(**slurm: object) -> SiteProfile:
    return parse_site({"slurm": slurm})


def directives(text: str) -> dict[str, str]:
    found = re.findall(r"^#SBATCH --([a-z-]+)(?:=(.*))?$", text, flags=re.MULTILINE)
    assert len(dict(found)) == len(found)
    return dict(found)


def settings(text: str) -> dict[str, int]:
    found = re.findall(r"^(?:export )?([a-z_]+)=(\d+)$", text, flags=re.MULTILINE)
    return {name: int(value) for name, value in found}


@pytest.mark.parametrize("name", ["exclusive", "shared", "gpu", "array"])
def test_committed_scripts_are_what_the_command_writes(name: str, tmp_path: Path) -> None:
    out = tmp_path / "script"
    assert main(regenerate().script(name, out)) == 0
    committed = (REPOSITORY / "deploy" / "slurm" / f"{name}.sbatch").read_text()
    assert out.read_text() == committed, "run python deploy/regenerate.py"


def test_every_committed_script_is_one_of_these() -> None:
    there = {path.stem for path in (REPOSITORY / "deploy" / "slurm").glob("*.sbatch")}
    assert there == set(regenerate().SCRIPTS)


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("array", [True, False])
@pytest.mark.parametrize("gpus", [0, 2])
def test_shellcheck_finds_nothing(exclusive: bool, array: bool, gpus: int, tmp_path: Path) -> None:
    path = tmp_path / "job.sh"
    runs = [RUN, replace(RUN, tilts="/data/it's b.zarr", out="/data/b c.zarr")] if array else RUN
    profile = site(exclusive=exclusive, gpus_per_node=gpus, setup=["module load cuda"])
    path.write_text(render_sbatch(runs, ON_GPUS if gpus else NEEDS, profile))
    words = [str(SHELLCHECK), EXCLUDE, "--severity=style", str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


AWKWARD = [
    "/data/a b",
    "/data/it's",
    '/data/"q"',
    "/data/$(date)",
    "/data/`id`;&|",
    "/data/*?[a]\\",
]


@pytest.mark.parametrize("array", [True, False])
@pytest.mark.parametrize("name", AWKWARD)
def test_command_gets_the_words_that_are_meant(array: bool, name: str, tmp_path: Path) -> None:
    run = Run(f"{name}.zarr", f"{name}-out.zarr", overrides=(f"denoiser={name}", "seed=2"))
    other = replace(run, tilts=f"{name}/2.zarr", out=f"{name}/2-out.zarr")
    text = render_sbatch([other, run] if array else run, NEEDS, site())
    # The part that says what is run; and a program that says how it was called.
    part = text[text.index("# The run.") : text.index("# Resources of a node")]
    program = tmp_path / "ddgm-dist"
    program.write_text('#!/bin/bash\nprintf "%s\\0" "$@"\n')
    program.chmod(0o755)
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_ARRAY_TASK_ID": "1"}
    words = ["bash", "-euc", f"{part}\nrun"]
    told = subprocess.run(words, env=path, capture_output=True, text=True, check=True).stdout
    every = replace(run, overrides=("checkpoint_every=52", *run.overrides))
    assert ("ddgm-dist", *told.split("\0")[:-1]) == reconstruct_command(every, NEEDS)


def test_run_that_says_how_often_it_writes_is_left_alone() -> None:
    text = render_sbatch(replace(RUN, overrides=("checkpoint_every=7",)), NEEDS, site())
    assert re.findall(r"checkpoint_every=(\d+)", text) == ["7"]


def test_checkpoints_come_within_the_time_of_notice() -> None:
    for notice in (90, 120, 900):
        text = render_sbatch(RUN, NEEDS, site(signal_seconds=notice))
        every = int(re.findall(r"checkpoint_every=(\d+)", text)[0])
        assert directives(text)["signal"] == f"B:TERM@{notice}"
        assert every < settings(text)["grace"] < notice


def test_directives() -> None:
    profile = site(partition="gpu", account="a1", gpus_per_node=2, gpu_type="a100", qos="high")
    found = directives(render_sbatch(RUN, ON_GPUS, profile))
    assert found["mem"] == "0"
    expected = {"nodes": "2", "gres": "gpu:a100:2", "partition": "gpu", "account": "a1"}
    expected |= {"exclusive": "", "requeue": "", "qos": "high", "ntasks-per-node": "1"}
    assert {key: found.get(key) for key in expected} == expected
    # Two workers, the object store, the driver.
    shared = directives(render_sbatch(RUN, ON_GPUS, site(gpus_per_node=2, exclusive=False)))
    assert shared["mem"] == f"{(2 * 4 + 2 + 2) * 1024}M"
    shared = directives(render_sbatch(RUN, NEEDS, site(exclusive=False, memory_per_node="64GiB")))
    assert "exclusive" not in shared
    assert (shared["nodes"], shared["mem"]) == ("4", "65536M")


def test_array() -> None:
    runs = [replace(RUN, tilts=f"/data/{i}", out=f"/out/{i}") for i in range(5)]
    assert directives(render_sbatch(runs, NEEDS, site()))["array"] == "0-4"
    assert directives(render_sbatch(runs, NEEDS, site(), max_parallel=2))["array"] == "0-4%2"
    assert "array" not in directives(render_sbatch(RUN, NEEDS, site()))


@pytest.mark.parametrize("port", [1024, 6379, 20000])
@pytest.mark.parametrize("cpus", [1, 8, 128])
def test_jobs_with_near_numbers_have_ports_apart(port: int, cpus: int) -> None:
    profile = site(exclusive=False, port=port, cpus_per_node=cpus)
    found = settings(render_sbatch(RUN, replace(NEEDS, cpus=1), profile))
    block, blocks = found["block"], found["blocks"]
    firsts = [port + job % blocks * block for job in range(1000, 1000 + blocks)]
    assert len(set(firsts)) == blocks >= 20
    assert all(b - a == block for a, b in itertools.pairwise(sorted(firsts)))
    assert max(firsts) + block <= 32768
    # Ten of Ray's own; a process for each CPU, twice over.
    assert block - 10 >= 2 * cpus


def test_batch_file(tmp_path: Path) -> None:
    path = tmp_path / "batch.txt"
    path.write_text("# series\n/a.zarr /b.zarr\n\n'/c d.zarr' s3://bucket/e.zarr  # last\n")
    first = replace(RUN, overrides=("seed=1",))
    found = read_batch(path, first)
    assert found[0] == first
    assert [(r.tilts, r.out) for r in found[1:]] == [
        ("/a.zarr", "/b.zarr"),
        ("/c d.zarr", "s3://bucket/e.zarr"),
    ]
    assert {r.overrides for r in found} == {("seed=1",)}


@pytest.mark.parametrize("line", ["/a.zarr", "/a.zarr /b.zarr /c.zarr", "'/a.zarr /b.zarr"])
def test_line_of_a_batch_that_is_none(line: str, tmp_path: Path) -> None:
    path = tmp_path / "batch.txt"
    path.write_text(f"/a.zarr /b.zarr\n{line}\n")
    with pytest.raises(InputError, match=re.escape(f"{path}:2")):
        read_batch(path, RUN)


REFUSED = [
    ("slurm.scratch", {"scratch": "/a-directory-with-a-long-name"}, NEEDS, "shorter"),
    ("slurm.port", {"port": 32760, "exclusive": False}, NEEDS, "smaller"),
    ("slurm.cpus_per_node", {"cpus_per_node": 4}, NEEDS, "fewer"),
    ("slurm.gpus_per_node", {}, ON_GPUS, "without GPUs"),
    ("slurm.memory_per_node", {"memory_per_node": "6GiB"}, NEEDS, "less --memory"),
    ("slurm.time", {"time": "7"}, NEEDS, "more than 420 s"),
]


@pytest.mark.parametrize(("argument", "slurm", "needs", "hint"), REFUSED)
def test_node_that_cannot(
    argument: str, slurm: dict[str, object], needs: Resources, hint: str
) -> None:
    with pytest.raises(InputError, match=re.escape(argument)) as told:
        render_sbatch(RUN, needs, site(**slurm))
    assert hint in told.value.hint


def test_array_that_cannot() -> None:
    twin = replace(RUN, tilts="/data/2.zarr")
    with pytest.raises(InputError, match="output of two runs"):
        render_sbatch([RUN, twin], NEEDS, site())
    other = replace(RUN, out="/data/2.zarr", overrides=("seed=2",))
    with pytest.raises(InputError, match="another configuration"):
        render_sbatch([RUN, other], NEEDS, site())
    with pytest.raises(InputError, match="at least one run"):
        render_sbatch([], NEEDS, site())
    with pytest.raises(InputError, match="is for arrays"):
        render_sbatch(RUN, NEEDS, site(), max_parallel=2)
    with pytest.raises(InputError, match="name = "):
        render_sbatch(RUN, NEEDS, site(), name="a job; rm")


def test_setup_comes_before_anything_is_called() -> None:
    text = render_sbatch(RUN, NEEDS, site(setup=["module load one", "source two"]))
    lines = text.splitlines()
    called = next(i for i, line in enumerate(lines) if line.startswith("export"))
    assert lines.index("module load one") < lines.index("source two") < called


def test_word_with_dashes_inside_stays_one(tmp_path: Path) -> None:
    run = replace(RUN, config="/d/my --cfg/run.yaml")
    text = render_sbatch(run, NEEDS, site())
    body = re.search(
        r"^run\(\) \{\n    exec ddgm-dist(.*?)^\}$", text, flags=re.MULTILINE | re.DOTALL
    )
    assert body
    line = f"set -- {body[1]}\nprintf '%s\\n' \"$@\""
    told = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    words = told.stdout.splitlines()
    assert words[words.index("--config") + 1] == "/d/my --cfg/run.yaml"


def test_a_configuration_that_says_how_often_is_left_alone(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("checkpoint_every: 30\n")
    assert "checkpoint_every=" not in render_sbatch(replace(RUN, config=str(config)), NEEDS, site())
    config.write_text("N: 30\n")
    assert "checkpoint_every=" in render_sbatch(replace(RUN, config=str(config)), NEEDS, site())


@pytest.mark.parametrize("text", ["N: 30\nN: 40\n", "N: [", "\x00"])
def test_a_configuration_that_cannot_be_read_is_refused_before_the_job_waits(
    tmp_path: Path, text: str
) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(text)
    with pytest.raises(InputError, match=r"^--config = .*run\.yaml: "):
        render_sbatch(replace(RUN, config=str(config)), NEEDS, site())


def test_a_node_of_ones_own_is_taken_whole() -> None:
    assert directives(render_sbatch(RUN, NEEDS, site()))["mem"] == "0"
    assert directives(render_sbatch(RUN, NEEDS, site(exclusive=False)))["mem"].endswith("M")
    whole = site(memory_per_node="100GiB")
    assert directives(render_sbatch(RUN, NEEDS, whole))["mem"] == f"{100 * 1024}M"


def test_setup_may_read_what_is_not_set_and_call_what_fails(tmp_path: Path) -> None:
    """As conda's activation and modules do; afterwards the script is strict again."""
    text = render_sbatch(RUN, NEEDS, site(setup=['echo "[$NOT_SET_ANYWHERE]"', "false"]))
    first = tmp_path / "first.sh"
    first.write_text(text[: text.index("# The run.")] + 'echo "$-"\necho "$NOT_SET_EITHER"\n')
    ended = subprocess.run(["bash", str(first)], capture_output=True, text=True, check=False)
    flags = ended.stdout.splitlines()
    assert flags[0] == "[]"
    assert {"e", "u"} <= set(flags[1])
    assert ended.returncode != 0
    assert "NOT_SET_EITHER: unbound variable" in ended.stderr


@pytest.mark.parametrize(
    ("limit", "seconds"),
    [
        ("7", 420),
        ("7:30", 450),
        ("1:02:03", 3723),
        ("2-3", 183600),
        ("2-3:04", 183840),
        ("1-00:00:01", 86401),
    ],
)
def test_time_limits_are_read_as_slurm_reads_them(limit: str, seconds: int) -> None:
    assert seconds_of(limit) == seconds


@pytest.mark.parametrize(
    ("after", "limit", "requeued"), [("0.4", 0, True), ("0.2", 0, False), ("0.2", 600, True)]
)
def test_a_start_that_adds_nothing_in_its_time_is_the_last(
    after: str, limit: int, requeued: bool, tmp_path: Path
) -> None:
    """Or a job whose time is too short would be requeued for ever."""
    text = render_sbatch(RUN, NEEDS, site())
    parts = Path(sys.modules[render_sbatch.__module__].__file__ or "").with_name("sbatch")
    ending = (parts / "end.sh").read_text()
    assert text.endswith(ending)
    progress = re.search(r"^progress\(\) \{.*?^\}$", text, flags=re.MULTILINE | re.DOTALL)
    assert progress
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, does in {
        "ddgm-dist": f"""echo '{{"fraction": {after}, "state": "interrupted"}}'""",
        "scontrol": f'echo "$@" > {tmp_path}/requeued; kill -KILL $PPID',
    }.items():
        (tools / name).write_text(f"#!/bin/bash\n{does}\n")
        (tools / name).chmod(0o755)
    script = tmp_path / "end.sh"
    script.write_text(
        f"""set -euo pipefail
        PATH={tools}:{Path(sys.executable).parent}:$PATH home={tmp_path} out=/o SLURM_JOB_ID=7 starts=3
        leaving=1 before=0.2 limit={limit} SECONDS=1
        say() {{ echo "$*"; }}; state() {{ echo RUNNING; }}; finish() {{ :; }}; working() {{ false; }}
        {progress[0]}
        {ending}"""
    )
    ended = subprocess.run(["bash", str(script)], capture_output=True, text=True, check=False)
    assert (tmp_path / "requeued").exists() == requeued, ended
    assert ("longer time" in ended.stderr) == (not requeued)
    assert ended.returncode != 0
