"""`serve_config.yaml` says what the code understands: Serve itself ignores unknown keys."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import (
    DeploymentSchema,
    HTTPOptionsSchema,
    LoggingConfig,
    RayActorOptionsSchema,
    ServeApplicationSchema,
    ServeDeploySchema,
)

from deployments.batching import BatchSettings
from pipeline.demands import DEMANDS
from pipeline.engines import ON_DEVICE, PRESETS, PortName
from serve_app.builder import build
from serve_app.plan import HOSTS, make_plan
from serve_app.settings import AppArgs

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "serve_config.yaml", *sorted((ROOT / "deploy").glob("serve_config.*.yaml"))]

#: GPUs of each file, and the memory of one that its comments speak of.
GPUS = {"serve_config.yaml": 1, "serve_config.4gpu.yaml": 4, "serve_config.8gpu.yaml": 8}
MEMORY_GIB = 24


def read(path: Path) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(path.read_text())
    return config


def application_of(config: dict[str, Any]) -> dict[str, Any]:
    (application,) = config["applications"]
    return application


def deployments_of(path: Path) -> dict[str, dict[str, Any]]:
    return {d["name"]: d for d in application_of(read(path))["deployments"]}


@pytest.fixture(params=FILES, ids=lambda path: path.name)
def path(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


def test_there_is_a_file_for_every_kind_of_machine():
    assert {path.name for path in FILES} == {*GPUS, "serve_config.cpu.yaml"}


def test_no_key_is_misspelt(path):
    config = read(path)
    application = application_of(config)
    assert set(config) <= set(ServeDeploySchema.model_fields)
    assert set(config["http_options"]) <= set(HTTPOptionsSchema.model_fields)
    assert set(config["logging_config"]) <= set(LoggingConfig.model_fields)
    assert set(application) <= set(ServeApplicationSchema.model_fields)
    for deployment in application["deployments"]:
        assert set(deployment) <= set(DeploymentSchema.model_fields), deployment["name"]
        scaling = deployment.get("autoscaling_config", {})
        assert set(scaling) <= set(AutoscalingConfig.model_fields), deployment["name"]
        actor = deployment.get("ray_actor_options", {})
        assert set(actor) <= set(RayActorOptionsSchema.model_fields), deployment["name"]
        BatchSettings.model_validate(deployment.get("user_config", {}))
    ServeDeploySchema.model_validate(config)


def test_arguments_are_those_of_the_builder_and_every_deployment_is_named(path):
    args = AppArgs.model_validate(application_of(read(path))["args"])
    assert build.__annotations__["args"] is AppArgs, "Serve validates only against a class"
    assert set(deployments_of(path)) == {"Ingress", "Driver", "Dispatcher", *args.hosts}


def test_a_driver_admits_as_many_jobs_as_the_dispatcher_hands_out(path):
    driver = deployments_of(path)["Driver"]
    args = application_of(read(path))["args"]
    assert driver["max_ongoing_requests"] == args["max_running_jobs"]


def test_every_port_may_have_a_host_of_its_own():
    apart = AppArgs.model_validate({"hosts": {port.title(): [port] for port in PortName}})
    assert apart.hosts["Exporter"] == (PortName.EXPORTER,)
    assert AppArgs.model_validate({"hosts": {"All": [*PortName]}})
    assert AppArgs().hosts["Splats"] == (PortName.SPLATS, PortName.EXPORTER)


def test_it_listens_on_loopback_unless_told_otherwise(path):
    assert read(path)["http_options"]["host"] == "127.0.0.1"


# -- GPUs ----------------------------------------------------------------------------------------


def shares(path: Path) -> dict[str, float]:
    """GPUs of one replica, by deployment."""
    return {
        name: deployment.get("ray_actor_options", {}).get("num_gpus", 0)
        for name, deployment in deployments_of(path).items()
    }


def replicas(deployment: dict[str, Any]) -> int:
    scaling = deployment.get("autoscaling_config", {"max_replicas": 1})
    most: int = scaling["max_replicas"]
    return max(most, deployment.get("num_replicas", 1))


@pytest.mark.parametrize("name", GPUS)
def test_a_gpu_deployment_has_the_memory_it_needs_and_the_others_have_none(name):
    path = next(p for p in FILES if p.name == name)
    args = AppArgs.model_validate(application_of(read(path))["args"])
    choice = args.engine_choice()
    lent = shares(path)
    for host, ports in args.hosts.items():
        needs = [
            DEMANDS[choice.engine(port)].total for port in ports if choice.engine(port) in ON_DEVICE
        ]
        assert lent[host] * MEMORY_GIB >= sum(needs), host
        assert bool(lent[host]) == bool(needs), host


@pytest.mark.parametrize(("name", "gpus"), GPUS.items())
def test_the_shares_add_up(name, gpus):
    path = next(p for p in FILES if p.name == name)
    deployments = deployments_of(path)
    lent = shares(path)
    assert gpus - 1 < sum(lent[d] * replicas(deployments[d]) for d in deployments) <= gpus


def test_one_gpu_is_divided_as_the_plan_says():
    lent = shares(ROOT / "serve_config.yaml")
    assert {host: lent[host] for host in HOSTS} == make_plan(1, MEMORY_GIB).shares()


def test_gpu_files_name_the_gpu_engines_and_insist_on_a_gpu():
    for path in FILES:
        args = AppArgs.model_validate(application_of(read(path))["args"])
        if path.name in GPUS:
            assert args.engines == PRESETS["gpu"]
            assert args.device == "cuda"
        else:
            assert not set(args.engines.values()) & ON_DEVICE


@pytest.mark.parametrize(
    "args",
    [
        {"engine": {}},
        {"engines": {"views": "magic"}},
        {"engines": "magic"},
        {"device": "tpu"},
        {"precision": "fp8"},
        {"gpu_shares": {"Nobody": 0.5}},
        {"gpu_shares": {"Splats": 2}},
        {"hosts": {"All": ["background", "views"]}},
        {"max_queued_jobs": 0},
        {"hosts": {"A": [*PortName], "B": ["depth"]}},
        {"hosts": {"A": ["background", "views", "depth", "splats", "enhancer"]}},
        {"engines": {"exporter": "magic"}},
    ],
)
def test_wrong_arguments_are_refused(args):
    with pytest.raises(ValidationError):
        AppArgs.model_validate(args)
