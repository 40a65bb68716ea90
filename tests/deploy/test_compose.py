"""What can be held of the service without an engine: tests/compose/run.sh runs it under one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from dsdq.settings import SECRETS, Settings
from producers.gateway.metrics import Metrics
from workers.verifier.metrics import LABELS, METRICS, NAMES, Family

ROOT = Path(__file__).parents[2]
COMPOSE = (ROOT / "compose.yaml").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE)["services"]
ONCE = {"secrets", "admin"}
FOREVER = {name: one for name, one in SERVICES.items() if name not in ONCE}
OWN = {"secrets", "admin", "verifier", "gateway", "batch", "device"}
VARIABLE = re.compile(r"\$\{([A-Z_]+):-([^}]*)\}")


def value_of(text: object) -> str:
    """Return what compose makes of a value where no .env is there."""
    return VARIABLE.sub(lambda found: found[2], str(text))


def seconds(text: object) -> int:
    return int(str(text).removesuffix("s"))


def test_the_roles_are_there() -> None:
    assert set(SERVICES) == OWN | {"redis", "prometheus", "grafana"}
    profiles = {name: one["profiles"] for name, one in SERVICES.items() if "profiles" in one}
    assert profiles == {"device": ["demo"], "prometheus": ["observe"], "grafana": ["observe"]}


def test_one_image_serves_all_roles_and_each_image_has_a_version() -> None:
    images = {name: value_of(one["image"]) for name, one in SERVICES.items()}
    assert {images[name] for name in OWN} == {"dsdq:0.1.0"}
    tags = [image.rpartition(":")[2] for image in images.values()]
    assert all(re.match(r"v?\d", tag) for tag in tags), images


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_may_do_no_more_than_it_must(name: str) -> None:
    one = SERVICES[name]
    assert one["read_only"] is True
    assert one["init"] is True
    assert one["cap_drop"] == ["ALL"]
    assert one["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in one
    assert "mem_limit" in one
    if name == "secrets":  # gives volumes to their owners, and reaches no network meanwhile
        assert one["network_mode"] == "none"
        assert set(one["cap_add"]) == {"CHOWN", "DAC_OVERRIDE", "FOWNER"}
    else:
        assert "cap_add" not in one
        assert str(one.get("user", "image")).split(":")[0] != "0"


def test_the_image_is_not_roots() -> None:
    last = (ROOT / "Dockerfile").read_text().rpartition("\nFROM ")[2]
    assert re.search(r"^USER dsdq$", last, flags=re.MULTILINE)
    assert "--uid 10001" in last
    assert SERVICES["secrets"]["environment"]["DSDQ_UID"] == "10001"


def test_the_image_holds_no_more_than_it_is_made_of() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    kept = [line[1:] for line in ignored if line.startswith("!")]
    assert all((ROOT / name).exists() for name in kept)
    assert not {"tests", "bench", ".git", ".env", "deploy"} & set(kept)


@pytest.mark.parametrize("name", FOREVER)
def test_who_stays_is_looked_after_and_started_again(name: str) -> None:
    assert SERVICES[name]["restart"] == "unless-stopped"
    assert SERVICES[name]["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}


@pytest.mark.parametrize("name", sorted(ONCE))
def test_who_runs_once_is_not(name: str) -> None:
    assert SERVICES[name]["restart"] == "no"
    waited_for = [one.get("depends_on", {}).get(name, {}).get("condition") for one in SERVICES.values()]
    assert set(waited_for) - {None} == {"service_completed_successfully"}


@pytest.mark.parametrize("name", ["verifier", "batch", "device"])
def test_what_is_scaled_has_nothing_that_only_one_can_have(name: str) -> None:
    assert not {"container_name", "ports", "hostname"} & set(SERVICES[name])


def test_only_loopback_is_published_and_redis_is_not() -> None:
    ports = {name: [value_of(port) for port in one.get("ports", [])] for name, one in SERVICES.items()}
    assert {name: found for name, found in ports.items() if found} == {
        "gateway": ["127.0.0.1:8000:8000"],
        "prometheus": ["127.0.0.1:9090:9090"],
        "grafana": ["127.0.0.1:3000:3000"],
    }
    assert SERVICES["redis"]["networks"] == ["bus"]
    assert yaml.safe_load(COMPOSE)["networks"]["bus"]["internal"] is True


def test_who_drains_is_given_the_time_to() -> None:
    drain_ms = int(SERVICES["gateway"]["environment"]["DSDQ_DRAIN_MS"])
    assert drain_ms == Settings.model_fields["drain_ms"].default
    assert 1000 * seconds(SERVICES["gateway"]["stop_grace_period"]) > drain_ms + 5000
    assert all("stop_grace_period" in SERVICES[name] for name in ("redis", "verifier", "batch", "device"))


def test_no_secret_is_handed_in() -> None:
    names = {f"DSDQ_{name.upper()}" for name in SECRETS} | {"DSDQ_REDIS_URL"}
    for name, one in SERVICES.items():
        given = one.get("environment", {})
        assert not names & set(given), name
        assert not [key for key in given if "PASSWORD" in key and not key.endswith("__FILE")]
    offered = {line.partition("=")[0] for line in (ROOT / ".env.example").read_text().splitlines()}
    assert not [name for name in offered if re.search("PASSWORD|SECRET|KEY", name) and not name.startswith("#")]


def test_each_role_sees_its_own_secrets_only() -> None:
    seen = {
        name: [str(one).split(":")[0] for one in found.get("volumes", []) if "secrets:" in str(one)]
        for name, found in SERVICES.items()
    }
    del seen["secrets"]
    role = {"batch": "gateway"}
    assert seen == {
        name: [] if name in {"redis", "prometheus"} else [f"{role.get(name, name)}-secrets"] for name in seen
    }


def test_every_setting_is_in_the_example_with_its_default_and_no_other() -> None:
    example = (ROOT / ".env.example").read_text().splitlines()
    offered = dict(line.split("=", 1) for line in example if line and not line.startswith("#"))
    used = dict[str, set[str]]()
    for text in (COMPOSE, (ROOT / "compose.gpu.yaml").read_text()):
        assert "${" not in VARIABLE.sub("", text)
        for name, default in VARIABLE.findall(text):
            used.setdefault(name, set()).add(default)
    assert {name: {default} for name, default in offered.items()} == used


def test_what_is_mounted_is_there() -> None:
    volumes = set(yaml.safe_load(COMPOSE)["volumes"])
    sources = {str(one).split(":")[0] for found in SERVICES.values() for one in found.get("volumes", [])}
    files = {source for source in sources if source.startswith("./")}
    assert files
    assert [source for source in files if not (ROOT / source).exists()] == []
    assert sources - files == volumes


def test_redis_keeps_what_it_accepts_and_knows_only_its_users() -> None:
    lines = [line.split() for line in (ROOT / "deploy/redis.conf").read_text().splitlines() if line]
    options = {words[0]: " ".join(words[1:]) for words in lines if not words[0].startswith("#")}
    assert options["appendonly"] == "yes"
    assert options["maxmemory-policy"] == "noeviction"
    assert options["aclfile"] == "/users/users.acl"


def test_prometheus_finds_verifiers_however_many_there_are() -> None:
    config = yaml.safe_load((ROOT / "deploy/prometheus.yml").read_text())
    jobs = {one["job_name"]: one for one in config["scrape_configs"]}
    (found,) = jobs["verifier"]["dns_sd_configs"]
    assert (found["names"], str(found["port"])) == (
        ["verifier"],
        SERVICES["verifier"]["environment"]["DSDQ_METRICS_PORT"],
    )
    assert jobs["gateway"]["static_configs"] == [{"targets": ["gateway:8000"]}]
    mounted = [str(one).split(":")[1] for one in SERVICES["prometheus"]["volumes"]]
    assert set(config["rule_files"]) <= set(mounted)


def queries() -> dict[str, str]:
    rules = yaml.safe_load((ROOT / "deploy/alerts.yml").read_text())["groups"][0]["rules"]
    panels = json.loads((ROOT / "deploy/grafana/dashboards/dsdq.json").read_text())["panels"]
    return {one["alert"]: one["expr"] for one in rules} | {
        f"{panel['title']} {target['refId']}": target["expr"] for panel in panels for target in panel["targets"]
    }


def test_alerts_and_panels_ask_for_metrics_that_somebody_has() -> None:
    gateways = set(re.findall(r"^# TYPE (\S+)", Metrics().page().decode(), flags=re.MULTILINE))
    verifiers = set(NAMES)
    assert gateways
    assert verifiers
    for title, expr in queries().items():
        for name in re.findall(r"dsdq:\w+", expr):
            assert {name, re.sub("_(bucket|sum|count)$", "", name)} & (gateways | verifiers), (title, name)


def test_alerts_and_panels_tell_series_apart_by_labels_that_there_are() -> None:
    gateways = [name for metric in Metrics()._registry._collector_to_names for name in metric._labelnames]
    ours = {*LABELS, *(metric.label for metric in METRICS if isinstance(metric, Family))}
    for title, expr in queries().items():
        grouped = [name.strip() for found in re.findall(r"\b(?:by|on) ?\(([^)]*)\)", expr) for name in found.split(",")]
        chosen = re.findall(r"[{,] ?(\w+) ?[=!]", expr)
        assert {*grouped, *chosen} <= {*ours, *gateways, "job", "instance", "le"}, title


def test_every_alert_says_what_it_means_and_operators_are_told_what_to_do() -> None:
    manual = (ROOT / "docs/operations.md").read_text()
    for rule in yaml.safe_load((ROOT / "deploy/alerts.yml").read_text())["groups"][0]["rules"]:
        assert rule["annotations"]["summary"]
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert f"**{rule['alert']}**" in manual


def test_grafana_is_told_of_prometheus_and_of_its_dashboards() -> None:
    places = ROOT / "deploy/grafana/provisioning"
    (source,) = yaml.safe_load((places / "datasources/prometheus.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((places / "dashboards/dsdq.yml").read_text())["providers"]
    panels = json.loads((ROOT / "deploy/grafana/dashboards/dsdq.json").read_text())["panels"]
    assert {panel["datasource"]["uid"] for panel in panels} == {source["uid"]}
    assert len({panel["id"] for panel in panels}) == len(panels)
    mounted = [str(one).split(":")[1] for one in SERVICES["grafana"]["volumes"]]
    assert provider["options"]["path"] in mounted


def test_prometheus_itself_takes_its_configuration(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool on the PATH (Debian's package prometheus has it)")
    text = (ROOT / "deploy/prometheus.yml").read_text().replace("/etc/prometheus", str(ROOT / "deploy"))
    (tmp_path / "prometheus.yml").write_text(text)
    command = [promtool, "check", "config", tmp_path / "prometheus.yml"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_gpus_are_asked_for_by_an_override_alone() -> None:
    verifier = yaml.safe_load((ROOT / "compose.gpu.yaml").read_text())["services"]["verifier"]
    (device,) = verifier["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    assert verifier["command"][:3] == SERVICES["verifier"]["command"][:3]
    assert "nvidia" not in COMPOSE


def test_the_run_under_an_engine_says_why_it_skips(tmp_path: Path) -> None:
    for program in ("bash", "dirname"):
        (tmp_path / program).symlink_to(shutil.which(program) or "")
    found_there = {**os.environ, "PATH": str(tmp_path)}
    command = [ROOT / "tests/compose/run.sh"]
    ended = subprocess.run(command, capture_output=True, text=True, env=found_there, check=False)
    assert (ended.returncode, ended.stdout) == (0, "compose-test: skipped: no docker on this machine\n")
