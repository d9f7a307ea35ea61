"""The rules and the dashboard ask for metrics that there are."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "deploy" / "monitoring"
# Of prometheus_client, of Prometheus itself, of its node exporter.
FOREIGN = r"(?:thingscale_store_)?process_[a-z_]+|up|node_filesystem_(?:avail|size)_bytes"


def expressions() -> list[str]:
    rules: Any = yaml.safe_load((MONITORING / "rules.yml").read_text())
    dashboard: Any = json.loads((MONITORING / "dashboard.json").read_text())
    asked = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    return asked + [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def documented() -> set[str]:
    names = set(re.findall(r"`(thingscale_[a-z_]+)", (ROOT / "docs" / "metrics.md").read_text()))
    parts = {f"{name}{part}" for name in names for part in ("_bucket", "_sum", "_count")}
    return names | parts


def metrics(expression: str) -> set[str]:
    """The names in it that are no functions, no labels and no words of the language."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]|\b(?:by|without) \([^)]*\)', " ", expression)
    return set(re.findall(r"[a-z_]{2,}\b(?!\s*\()", bare)) - {"or", "and", "by"}


def test_the_names_are_found() -> None:
    asked = 'sum by (le) (rate(thingscale_batch_size_bucket{job="x"}[5m])) > 0 or max(up) == 0'
    assert metrics(asked) == {"thingscale_batch_size_bucket", "up"}


@pytest.mark.parametrize("expression", expressions())
def test_each_metric_is_one(expression: str) -> None:
    names = metrics(expression)
    assert names
    assert not {name for name in names if not re.fullmatch(FOREIGN, name)} - documented()


def test_prometheus_takes_the_files() -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    checked = subprocess.run(
        ["promtool", "check", "config", MONITORING / "prometheus.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_what_is_scraped_is_what_the_compose_file_opens() -> None:
    config: Any = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    targets = {
        target
        for job in config["scrape_configs"]
        for static in job["static_configs"]
        for target in static["targets"]
    }
    services: Any = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]
    ingest, web = services["ingest"]["environment"], services["web"]["environment"]
    assert f"ingest:{ingest['THINGSCALE_METRICS_PORT']}" in targets
    assert f"web:{web['THINGSCALE_WEB_METRICS_PORT']}" in targets
