"""``ddgm-dist manifest``: from a site and a plan to a file, and from a file to findings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from ddgm_dist.cli import main
from ddgm_dist.tilts.series import TiltSeriesMeta, write_tilt_series
from tests.deploy.kuberay import KUBERNETES, crds

SITE = KUBERNETES / "base" / "site.yaml"
SLURM = KUBERNETES.parent / "slurm" / "site-gpu.yaml"
PLAN = KUBERNETES / "plans" / "field.json"
WHAT = ["/data/tilts.zarr", "/data/volume.zarr", "--site", str(SITE)]

Said = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def tilts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("series") / "tilts.zarr"
    rng = np.random.default_rng(0)
    projections = rng.standard_normal((9, 16, 96), dtype=np.float32) + 20
    angles = tuple(np.linspace(-60, 60, 9).tolist())
    write_tilt_series(path, projections, TiltSeriesMeta(angles_deg=angles, thickness_px=16))
    return path


def test_a_job_is_made_of_the_data_and_lints_clean(
    tilts: Path, tmp_path: Path, capsys: Said
) -> None:
    out = tmp_path / "job.yaml"
    words = ["--tilts-here", str(tilts), "--set", "mean=0", "--set", "std=1", "--workers", "2"]
    assert main(["manifest", "rayjob", *WHAT, *words, "-o", str(out)]) == 0
    job = yaml.safe_load(out.read_text())
    assert "--set mean=0 --set std=1" in job["spec"]["entrypoint"]
    assert "--workers 2" in job["spec"]["entrypoint"]
    assert main(["manifest", "lint", str(out), "--no-schema"]) == 0
    assert main(["manifest", "lint", str(out), "--crds", str(crds())]) == 0
    assert capsys.readouterr().out == f"written: {out}\n"


def test_a_cluster_is_as_large_as_its_run(capsys: Said) -> None:
    assert main(["manifest", "rayjob", *WHAT, "--plan", str(PLAN)]) == 0
    job = yaml.safe_load(capsys.readouterr().out)
    words = ["manifest", "raycluster", WHAT[0], "--site", str(SITE), "--plan", str(PLAN)]
    assert main(words) == 0
    cluster = yaml.safe_load(capsys.readouterr().out)
    assert cluster["kind"] == "RayCluster"
    (group,), (same,) = (
        each["workerGroupSpecs"] for each in (cluster["spec"], job["spec"]["rayClusterSpec"])
    )
    # It waits for runs, each of which asks for all its workers at its start.
    assert cluster["spec"]["enableInTreeAutoscaling"] is False
    assert group["minReplicas"] == group["replicas"] == same["replicas"]
    assert group["template"] == same["template"]
    assert group["rayStartParams"] == same["rayStartParams"]


def test_findings_are_told_and_end_with_status_1(tmp_path: Path, capsys: Said) -> None:
    assert main(["manifest", "rayjob", *WHAT, "--plan", str(PLAN)]) == 0
    job = yaml.safe_load(capsys.readouterr().out)
    job["spec"]["rayClusterSpec"]["authOptions"]["mode"] = "disabled"
    job["spec"]["entrypointNumCpus"] = 1
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(job))
    assert main(["manifest", "lint", str(path), "--no-schema"]) == 1
    said = capsys.readouterr()
    assert "[safe/auth]" in said.out
    assert "[run/driver-on-head]" in said.out
    assert said.out.count("fix: ") == 2
    assert said.err == "2 findings\n"


def test_standard_input_is_linted(capsys: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ddgm_dist", "manifest", "lint", "-", "--no-schema"],
        input="kind: RayCluster\nmetadata: {name: Bad}\nspec: {}\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "[operator/name]" in done.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["lint"], "name at least one manifest"),
        (["lint", "nowhere.yaml", "--no-schema"], "nowhere.yaml"),
        (["lint", str(SITE), "--crds", "nowhere"], "--crds = nowhere"),
        (["rayjob", *WHAT, "--plan", "nowhere.json"], "no such file"),
        (["rayjob", *WHAT, "--plan", str(PLAN), "--workers", "3"], "is fixed by the plan"),
        (["rayjob", "tilts.zarr", *WHAT[1:], "--plan", str(PLAN)], "relative path"),
        (["rayjob", *WHAT[:3], "nowhere.yaml", "--plan", str(PLAN)], "no such file"),
        (["rayjob", *WHAT, "--plan", str(PLAN), "--name", "A"], "small letters"),
        (["rayjob", "/mnt/t.zarr", *WHAT[1:], "--plan", str(PLAN)], "none of the site's volumes"),
        (["raycluster", "/mnt/t.zarr", *WHAT[2:], "--plan", str(PLAN)], "none of the site's"),
        (
            ["rayjob", *WHAT, "--plan", str(PLAN), "--set", "iteratons=3"],
            "did you mean N, the number of iterations?",
        ),
        (["rayjob", *WHAT, "--plan", str(PLAN), "--set", "N=0"], "N = 0"),
        (["raycluster", WHAT[0], *WHAT[2:], "--plan", str(PLAN), "--set", "Q=0"], "not a conf"),
        (["slurm", *WHAT[:3], str(SLURM), "--plan", str(PLAN), "--set", "N=0"], "N = 0"),
        (["slurm", *WHAT, "--plan", str(PLAN)], "has no section slurm"),
    ],
)
def test_mistakes_end_with_one_line_and_status_2(
    words: list[str], says: str, capsys: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["manifest", *words]) == 2
    said = capsys.readouterr()
    assert says in said.err
    assert said.err.count("\n") == 1
    assert not said.out


def test_a_configuration_must_be_where_the_pods_are(tmp_path: Path, capsys: Said) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("samples: 2\n")
    words = ["manifest", "rayjob", *WHAT, "--plan", str(PLAN), "--config", str(config)]
    assert main(words) == 2
    assert "config_map" in capsys.readouterr().err
    site = yaml.safe_load(SITE.read_text())
    site["kubernetes"]["config_map"] = "runs"
    own = tmp_path / "site.yaml"
    own.write_text(yaml.safe_dump(site))
    words[words.index(str(SITE))] = str(own)
    assert main(words) == 0
    job = yaml.safe_load(capsys.readouterr().out)
    assert "--config /etc/ddgm-dist/run.yaml" in job["spec"]["entrypoint"]


def test_rules_are_listed(capsys: Said) -> None:
    assert main(["manifest", "lint", "--rules"]) == 0
    assert "safe/exposed-head" in capsys.readouterr().out


USED = ["--set", "start=restored"]


@pytest.mark.parametrize("kind", ["slurm", "rayjob"])
@pytest.mark.parametrize(
    ("words", "refused"),
    [
        (["--set", "denoiser=w.pt"], "denoiser = w.pt: is no absolute path"),
        (["--set", "denoiser=nets/w.safetensors"], "denoiser = nets/w.safetensors: is no abs"),
        ([*USED, "--set", "restorer=w.safetensors"], "restorer = w.safetensors: is no absolute"),
        (["--set", "restorer=w.safetensors"], ""),
        ([*USED, "--set", "restorer=/data/w.safetensors"], ""),
        ([*USED, "--set", "restorer=mine:f", "--set", "denoiser=mine:g"], ""),
    ],
)
def test_networks_are_named_so_that_every_node_finds_them(
    words: list[str],
    refused: str,
    kind: str,
    capsys: Said,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    site = SLURM if kind == "slurm" else SITE
    given = ["manifest", kind, *WHAT[:3], str(site), "--plan", str(PLAN), *words]
    assert main(given) == (2 if refused else 0)
    said = capsys.readouterr()
    assert refused in said.err
    assert bool(said.out) != bool(refused)


def test_networks_of_a_configuration_file_are_looked_at_too(tmp_path: Path, capsys: Said) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("start: restored\nrestorer: w.safetensors\n")
    words = ["manifest", "slurm", *WHAT[:3], str(SLURM), "--plan", str(PLAN)]
    assert main([*words, "--config", str(config)]) == 2
    assert "restorer = w.safetensors: is no absolute path" in capsys.readouterr().err


def test_manifests_need_neither_ray_nor_torch() -> None:
    code = (
        "import sys, ddgm_dist.deploy.planned, ddgm_dist.deploy.rayjob\n"
        "import ddgm_dist.deploy.lint\n"
        "sys.exit(bool({'ray', 'torch', 'zarr', 'tensorstore'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
