"""What is in deploy/ and docs/scale.md agrees with the code: commands, names, versions, figures.

python -m tests.test_deploy          # prints the table of docs/scale.md
"""

import json
import re
import shlex
import sys
import tomllib

import click
import kubernetes_validate
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.runs import ROOT
from tracknet.commands import main
from tracknet.jobs import FLAGS, INSIDE_JOB
from tracknet.jobs.meters import exported

DEPLOY = ROOT / "deploy"
PINNED = dict(
    line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line
)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
IMAGE = f"registry.example.com/tracknet:{PROJECT['project']['version']}"


def job():
    return yaml.safe_load((DEPLOY / "rayjob.yaml").read_text())["spec"]


def groups():
    cluster = job()["rayClusterSpec"]
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def parse(line):
    """The parameters of a command line of ours; nothing is run."""
    words = shlex.split(line)
    assert words.pop(0) == "tracknet"
    command = main.cli.get_command(click.Context(main.cli), words.pop(0))
    return command.make_context("tracknet", words).params


def cores(container):
    limits = container["resources"]["limits"]
    assert container["resources"]["requests"] == limits
    return int(limits["cpu"])


def test_the_job_runs_our_command_inside_the_cluster():
    given = parse(job()["entrypoint"])
    assert not given["address"]
    environment = yaml.safe_load(job()["runtimeEnvYAML"])["env_vars"]
    assert environment == {**FLAGS, INSIDE_JOB: "1"}
    places = {
        m["mountPath"] for m in groups()[0]["template"]["spec"]["containers"][0]["volumeMounts"]
    }
    assert places == {*given["inputs"], str(given["out"])}
    cpu = groups()[1]
    room = cpu["maxReplicas"] * cores(cpu["template"]["spec"]["containers"][0])
    assert given["workers"] == room


def test_versions_are_those_of_the_tests():
    assert job()["rayClusterSpec"]["rayVersion"] == PINNED["ray"]
    images = re.findall(r"image: (\S+)", "".join(p.read_text() for p in DEPLOY.glob("*.yaml")))
    assert set(images) == {f"{IMAGE}-cuda"}
    built = re.findall(r"-t (\S+)", (DEPLOY / "Dockerfile").read_text())
    assert {f"registry.example.com/{name}" for name in built} == {IMAGE, f"{IMAGE}-cuda"}


@pytest.mark.parametrize("group", groups(), ids=["head", "cpu", "gpu"])
def test_pods_are_pods(group):
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, **group["template"]}
    kubernetes_validate.validate(pod, "1.37", strict=True)
    named = {m["name"] for m in pod["spec"]["containers"][0]["volumeMounts"]}
    assert named == {volume["name"] for volume in pod["spec"]["volumes"]}
    port = group["rayStartParams"]["metrics-export-port"]
    assert {"name": "metrics", "containerPort": int(port)} in pod["spec"]["containers"][0]["ports"]
    assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_the_launcher_takes_the_cluster():
    config = prepare_config(yaml.safe_load((DEPLOY / "cluster.yaml").read_text()))
    validate_config(config)
    kinds = config["available_node_types"]
    assert kinds[config["head_node_type"]]["resources"] == {"CPU": 0}
    assert config["max_workers"] == sum(k.get("max_workers", 0) for k in kinds.values())


def test_the_image_has_the_whole_package():
    text = (DEPLOY / "Dockerfile").read_text()
    copied = [word for line in re.findall(r"COPY (.*) /src", text) for word in line.split()]
    assert all((ROOT / name).exists() for name in copied)
    tools = PROJECT["tool"]["setuptools"]
    assert set(tools["package-dir"].values()) <= set(copied)
    assert {"pyproject.toml", "constraints.txt", PROJECT["project"]["readme"]} <= set(copied)
    assert {*PROJECT["project"]["license-files"]} <= set(copied)
    assert PROJECT["project"]["optional-dependencies"]["openvino"]
    base = re.search(r"^FROM python:(3\.\d+)-slim$", text, re.MULTILINE).group(1)
    assert PROJECT["project"]["requires-python"] == f">={base}"


def test_dashboard_and_alarms_ask_for_what_there_is():
    panels = json.loads((DEPLOY / "grafana.json").read_text())["panels"]
    rules = yaml.safe_load((DEPLOY / "alarms.yaml").read_text())["groups"][0]["rules"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    queries += [rule["expr"] for rule in rules]
    asked = set(re.findall(r"ray_tracknet_\w+", " ".join(queries)))
    assert asked <= exported()
    assert all(query.count("(") == query.count(")") for query in queries)
    page = (ROOT / "docs" / "scale.md").read_text("utf-8")
    assert re.findall(r"^\| `(Tracknet\w+)` \|", page, re.MULTILINE) == [r["alert"] for r in rules]
    assert exported() == set(re.findall(r"`(ray_tracknet_\w+)`", page))


# Measured, see docs/scale.md.
FRAMES_PER_CORE_S = 65 / 2  # whole runs on 2 cores, INT8
COMMIT_S = 0.004 * 1192.1 / 72_000  # of the driver, for each frame
START_S = 15.0
FRAMES = 10_000 * 3600 * 30


def hours(nodes, cores_per_node):
    """Computed hours of an archive of 10,000 hours at 30 frames/s on nodes without GPUs."""
    rate = min(nodes * cores_per_node * FRAMES_PER_CORE_S, 1 / COMMIT_S)
    return (START_S + FRAMES / rate) / 3600


def scale_table():
    lines = ["| nodes | 2 cores each, h | 16 cores each, h |", "|---|---|---|"]
    for nodes in (1, 2, 4, 8, 16, 32, 64):
        small, large = (hours(nodes, cores_per_node) for cores_per_node in (2, 16))
        lines.append(f"| {nodes} | {small:,.0f} | {large:,.0f} |")
    return "\n".join(lines) + "\n"


def test_the_table_is_what_the_formula_says():
    assert scale_table() in (ROOT / "docs" / "scale.md").read_text("utf-8")


if __name__ == "__main__":
    sys.stdout.write(scale_table())
