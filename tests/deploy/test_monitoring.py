"""What the dashboard and the rules name exists: a real Prometheus scrapes a real run."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

import ddgm_dist as dd
from ddgm_dist.simulation.phantom import TissuePhantom
from tests.ray_cluster import Cluster, free_ports, head, started

HERE = Path(__file__).parents[2] / "deploy" / "monitoring"
REQUIRED = "DDGM_REQUIRE_MONITORING"

# Kills its worker once, is slow, and waits in the third tile for as long as somebody looks at the run.
DENOISER = """
import os
import signal
import time
from pathlib import Path

HERE = Path(__file__).parent
calls = 0


def slow(x, sigma):
    global calls
    calls += 1
    time.sleep(0.2)
    if calls == 5 and (HERE / "fault").exists():
        (HERE / "fault").unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    while calls > 20 and not (HERE / "go").exists():
        time.sleep(0.1)
    return x
"""


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    """The script that makes the dashboard."""
    spec = importlib.util.spec_from_file_location("make_dashboard", HERE / "make_dashboard.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look
    spec.loader.exec_module(module)
    return module


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((HERE / "rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def queries(maker: ModuleType, *, gpus: bool) -> list[str]:
    """Of the dashboard's panels, as Grafana sends them."""
    found = [
        query
        for title, row in maker.ROWS.items()
        for panel in row
        for query in panel.queries.values()
        if (title == "GPUs") == gpus
    ]
    return [q.replace("$run", ".*").replace("$__rate_interval", "1m") for q in found]


def selectors(expression: str) -> set[str]:
    """The series that an expression asks for, each with its labels."""
    return set(re.findall(r"\b(?:ray_\w+|up)(?:\{[^}]*\})?", expression))


def test_the_dashboard_is_what_its_script_makes(maker: ModuleType) -> None:
    assert json.loads((HERE / "dashboard.json").read_text()) == maker.dashboard()
    command = [sys.executable, str(HERE / "make_dashboard.py"), "--check"]
    assert subprocess.run(command, check=False).returncode == 0


def test_each_of_our_metrics_has_a_panel_and_no_other_is_named(maker: ModuleType) -> None:
    from ddgm_dist.ray_engine.metrics import METRICS

    shown = " ".join(queries(maker, gpus=False))
    told = shown + " ".join(rule["expr"] for rule in alerts())
    assert {m[4:] for m in re.findall(r"ray_ddgm_\w+", shown)} == set(METRICS)
    assert {m[4:] for m in re.findall(r"ray_ddgm_\w+", told)} == set(METRICS)


def test_what_is_shown_of_gpus_is_what_ray_exports_of_them(maker: ModuleType) -> None:
    from ray.dashboard.modules.reporter.reporter_agent import METRICS_GAUGES

    names = {s.removeprefix("ray_") for q in queries(maker, gpus=True) for s in selectors(q)}
    assert names
    assert names <= set(METRICS_GAUGES)


def test_every_alert_is_explained_and_has_a_test_of_firing_and_of_not_firing(
    pytestconfig: pytest.Config,
) -> None:
    pages = (pytestconfig.rootpath / "docs/monitoring.md").read_text(encoding="utf-8")
    tests = yaml.safe_load((HERE / "rules_test.yml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    for rule in alerts():
        fires = {bool(c.get("exp_alerts")) for c in cases if c["alertname"] == rule["alert"]}
        assert fires == {True, False}, rule["alert"]
        assert rule["alert"] in pages


# -- with Prometheus --------------------------------------------------------------------------------


def tool(name: str) -> str:
    """A program of Prometheus, which the machine may lack."""
    found = shutil.which(name)
    if found is None:
        why = f"needs {name} (Debian's package prometheus): `make monitoring` fetches it"
        (pytest.fail if os.environ.get(REQUIRED) else pytest.skip)(why)
    return found


@pytest.mark.monitoring
@pytest.mark.parametrize(
    "words",
    [
        "check rules rules.yml",
        "test rules rules_test.yml",
        "check config --syntax-only prometheus.yml",
        "check config --syntax-only prometheus-remote.yml",
    ],
)
def test_prometheus_takes_the_files(words: str) -> None:
    done = subprocess.run(
        [tool("promtool"), *words.split()], cwd=HERE, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


class Prometheus:
    """The HTTP interface of a server."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, path: str, **parameters: str) -> Any:
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=60) as answer:
            return json.load(answer)["data"]

    def series(self, expression: str) -> list[dict[str, Any]]:
        return self.ask("query", query=expression)["result"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    (folder / "watched.py").write_text(DENOISER)
    (folder / "fault").touch()
    return folder


@pytest.fixture(scope="module")
def cluster(site: Path) -> Iterator[Cluster]:
    tool("prometheus")  # before anything is started
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    with head({"PYTHONPATH": path}) as found:
        yield found


@pytest.fixture(scope="module")
def prometheus(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A server with the project's rules, that finds this cluster by both of the ways described."""
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "token").write_text(cluster.token)
    here = (HERE / "prometheus.yml").read_text()
    there = (HERE / "prometheus-remote.yml").read_text()
    assert "/tmp/ray/prom_metrics" in here
    config = yaml.safe_load(here.replace("/tmp/ray/", f"{cluster.folder}/t/"))
    there = there.replace("http://HEAD:8265", cluster.dashboard)
    (remote,) = yaml.safe_load(there)["scrape_configs"]
    (sd,) = remote["http_sd_configs"]
    sd["authorization"]["credentials_file"] = str(folder / "token")
    sd["refresh_interval"] = "2s"
    # Ray's own label `job` would win over the name.
    relabel = [{"target_label": "job", "replacement": "remote"}]
    config["scrape_configs"].append({**remote, "job_name": "remote", "relabel_configs": relabel})
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    shutil.copy(HERE / "rules.yml", folder)
    (port,) = free_ports(1)
    words = [
        tool("prometheus"),
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    log = folder / "log"
    with started(words, {"PATH": os.environ["PATH"]}, log) as process:
        url, end = f"http://127.0.0.1:{port}", time.monotonic() + 300
        while True:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            try:
                urllib.request.urlopen(f"{url}/-/ready", timeout=60).close()
                break
            except OSError:
                time.sleep(0.2)
        yield Prometheus(url)


@pytest.fixture(scope="module")
def run(cluster: Cluster, site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A reconstruction under way, in its third tile of four; a worker has been lost in the first."""
    folder = tmp_path_factory.mktemp("run")
    volume = TissuePhantom((12, 8, 96), seed=0)
    dd.simulate(volume, folder / "tilts.zarr", noise="gaussian:0.05", field=64)
    keys = {
        "N": 8, "K": 5, "rows_per_call": 2, "tile_rows": 2, "checkpoint_every": 0.5,
        "denoiser": "watched:slow",
    }  # fmt: skip
    words = [sys.executable, "-m", "ddgm_dist", "reconstruct", "tilts.zarr", "watched.zarr"]
    words += ["--address", cluster.gcs, "--workers", "1"]
    words += [f"--set={key}={value}" for key, value in keys.items()]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            words, env=cluster.environment, cwd=folder, stdout=log, stderr=log
        )
    try:
        yield process
        (site / "go").touch()
        assert process.wait(timeout=300) == 0, (folder / "log").read_text()
    finally:
        process.kill()
        process.wait()


@pytest.mark.monitoring
@pytest.mark.ray
def test_all_panels_and_rules_resolve_during_a_run(
    prometheus: Prometheus, run: subprocess.Popen[bytes], site: Path, maker: ModuleType
) -> None:
    asked = set(queries(maker, gpus=False))
    for rule in alerts():
        asked |= selectors(rule["expr"])
    assert len(asked) > 30
    missing, end = asked, time.monotonic() + 240
    while missing:
        assert run.poll() is None
        assert time.monotonic() < end, missing
        time.sleep(1)
        missing = {expression for expression in missing if not prometheus.series(expression)}
    assert not (site / "fault").exists()
    # They are of this run, and true.
    (progress,) = prometheus.series('max by (run) (ray_ddgm_progress_ratio{job="ray"})')
    assert progress["metric"] == {"run": "watched.zarr"}
    assert 0.5 <= float(progress["value"][1]) < 1
    (lost,) = prometheus.series('ray_ddgm_faults_total{job="ray",kind="worker-lost"}')
    assert float(lost["value"][1]) == 1
    rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
    assert {rule["name"]: rule["health"] for rule in rules} == {a["alert"]: "ok" for a in alerts()}
    # Found by the file on the head, and by the dashboard, which asks for the token.
    up = {(s["metric"]["job"], s["value"][1]) for s in prometheus.series("up")}
    assert up == {("ray", "1"), ("remote", "1")}
