"""Makes dashboard.json, for Grafana, of the metrics that a run exports.

    python deploy/monitoring/make_dashboard.py            writes it
    python deploy/monitoring/make_dashboard.py --check    exit status 1 if it is another

Each of our own metrics (ddgm_dist/ray_engine/metrics.py) has a place here; the rest are Ray's own.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OUT = Path(__file__).with_name("dashboard.json")
RUN = 'run=~"$run"'
WIDTH, COLUMNS = 8, 3


@dataclass(frozen=True)
class Panel:
    """A graph.

    Attributes
    ----------
    title, unit
        Grafana's units: ``s``, ``bytes``, ``percentunit``, ``short``...
    queries
        Legend -> PromQL.
    """

    title: str
    unit: str
    queries: dict[str, str]


def newest(name: str) -> str:
    """A gauge of a run, whichever process tells it."""
    return f"max by (run) (ray_{name}{{{RUN}}})"


def rate(name: str, by: str = "run") -> str:
    return f"sum by ({by}) (rate(ray_{name}{{{RUN}}}[$__rate_interval]))"


ROWS: dict[str, list[Panel]] = {
    "Runs": [
        Panel("Progress", "percentunit", {"{{run}}": newest("ddgm_progress_ratio")}),
        Panel(
            "Voxels per second (each iteration counts)",
            "short",
            {"{{run}}": rate("ddgm_voxels_total")},
        ),
        Panel(
            "Time left at this pace",
            "s",
            {
                "{{run}}": "clamp_min(1 - max by (run) (ray_ddgm_progress_ratio{"
                + RUN
                + "}), 0) / "
                "clamp_min(max by (run) (deriv(ray_ddgm_progress_ratio{" + RUN + "}[10m])), 1e-9)"
            },
        ),
        Panel(
            "Residual (1 is the image's deviation)", "short", {"{{run}}": newest("ddgm_residual")}
        ),
        Panel(
            "Iterations and tiles per second",
            "short",
            {
                "iterations {{run}}": rate("ddgm_iterations_total"),
                "tiles {{run}}": rate("ddgm_tiles_done_total"),
            },
        ),
        Panel(
            "What workers do (seconds per second)",
            "short",
            {"{{phase}}": rate("ddgm_phase_seconds_total", "phase")},
        ),
    ],
    "Health": [
        Panel(
            "Since the last step, and the last save",
            "s",
            {
                "step {{run}}": f"time() - {newest('ddgm_last_progress_timestamp_seconds')}",
                "save {{run}}": f"time() - {newest('ddgm_last_saved_timestamp_seconds')}",
            },
        ),
        Panel(
            "Checkpoints: age, and as configured",
            "s",
            {
                "age {{run}}": f"time() - {newest('ddgm_last_checkpoint_timestamp_seconds')}",
                "configured {{run}}": newest("ddgm_checkpoint_every_seconds"),
            },
        ),
        Panel(
            "Checkpoints: bytes per second",
            "Bps",
            {"{{run}}": rate("ddgm_checkpoint_bytes_total")},
        ),
        Panel(
            "Checkpoints: seconds per second",
            "short",
            {"{{run}}": rate("ddgm_checkpoint_seconds_total")},
        ),
        Panel(
            "Workers",
            "short",
            {
                "ready {{run}}": newest("ddgm_workers"),
                "lost in a row {{run}}": newest("ddgm_losses_in_a_row"),
                "lost in a row, at most {{run}}": newest("ddgm_losses_allowed"),
            },
        ),
        Panel(
            "Faults",
            "short",
            {"{{run}} {{kind}}": f"sum by (run, kind) (ray_ddgm_faults_total{{{RUN}}})"},
        ),
    ],
    "Nodes": [
        Panel(
            "Object store",
            "bytes",
            {
                "used {{NodeAddress}}": "sum by (NodeAddress) (ray_object_store_used_memory)",
                "free {{NodeAddress}}": "sum by (NodeAddress) (ray_object_store_available_memory)",
            },
        ),
        Panel(
            "Spilled to disk",
            "bytes",
            {
                "{{NodeAddress}}": 'sum by (NodeAddress) (ray_object_store_memory{Location="SPILLED"})'
            },
        ),
        Panel(
            "Requests to spill and to restore",
            "short",
            {
                "{{Type}} {{NodeAddress}}": "sum by (NodeAddress, Type) "
                '(ray_spill_manager_request_total{Type=~"Spilled|Restored"})'
            },
        ),
        Panel("CPU", "percent", {"{{ip}}": "max by (ip) (ray_node_cpu_utilization)"}),
        Panel(
            "Memory used",
            "percentunit",
            {"{{ip}}": "max by (ip) (ray_node_mem_used / ray_node_mem_total)"},
        ),
        Panel("Room on the disk", "bytes", {"{{ip}}": "min by (ip) (ray_node_disk_free)"}),
    ],
    # Exported by nodes with GPUs only.
    "GPUs": [
        Panel(
            "Utilisation",
            "percent",
            {"{{ip}} {{GpuIndex}}": "max by (ip, GpuIndex) (ray_node_gpus_utilization)"},
        ),
        Panel(
            "Memory",
            "decmbytes",
            {
                "used {{ip}} {{GpuIndex}}": "max by (ip, GpuIndex) (ray_node_gram_used)",
                "free {{ip}} {{GpuIndex}}": "max by (ip, GpuIndex) (ray_node_gram_available)",
            },
        ),
    ],
}


def dashboard() -> dict[str, Any]:
    """The document."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS.items():
        panels.append(_placed(len(panels), {"type": "row", "title": title}, 0, top, 24, 1))
        top += 1
        for i, panel in enumerate(row):
            x, y = WIDTH * (i % COLUMNS), top + WIDTH * (i // COLUMNS)
            panels.append(_placed(len(panels), _graph(panel), x, y, WIDTH, WIDTH))
        top += WIDTH * -(-len(row) // COLUMNS)
    return {
        "uid": "ddgm-dist",
        "title": "ddgm_dist reconstructions",
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "",
        "tags": ["ddgm_dist", "ray"],
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus"},
                {
                    "name": "run",
                    "type": "query",
                    "datasource": _SOURCE,
                    "query": {
                        "query": "label_values(ray_ddgm_progress_ratio, run)",
                        "refId": "run",
                    },
                    "refresh": 2,
                    "multi": True,
                    "includeAll": True,
                    "allValue": ".*",
                },
            ]
        },
        "panels": panels,
    }


_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def _placed(number: int, panel: dict[str, Any], x: int, y: int, w: int, h: int) -> dict[str, Any]:
    return {"id": number + 1, **panel, "gridPos": {"x": x, "y": y, "w": w, "h": h}}


def _graph(panel: Panel) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + i), "datasource": _SOURCE, "expr": query, "legendFormat": legend}
        for i, (legend, query) in enumerate(panel.queries.items())
    ]
    return {
        "type": "timeseries",
        "title": panel.title,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": targets,
    }


def main() -> int:
    text = json.dumps(dashboard(), indent=1) + "\n"
    if "--check" in sys.argv[1:]:
        return int(not OUT.exists() or OUT.read_text(encoding="utf-8") != text)
    OUT.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
