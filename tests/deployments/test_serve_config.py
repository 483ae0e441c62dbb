"""`serve_config.yaml` says what the code understands: Serve itself ignores unknown keys."""

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError
from ray.serve.schema import (
    DeploymentSchema,
    HTTPOptionsSchema,
    LoggingConfig,
    ServeApplicationSchema,
    ServeDeploySchema,
)

from pipeline.engines import PortName
from serve_app.builder import build
from serve_app.settings import AppArgs

CONFIG = yaml.safe_load((Path(__file__).parents[2] / "serve_config.yaml").read_text())
(APPLICATION,) = CONFIG["applications"]


def test_no_key_is_misspelt():
    assert set(CONFIG) <= set(ServeDeploySchema.model_fields)
    assert set(CONFIG["http_options"]) <= set(HTTPOptionsSchema.model_fields)
    assert set(CONFIG["logging_config"]) <= set(LoggingConfig.model_fields)
    assert set(APPLICATION) <= set(ServeApplicationSchema.model_fields)
    for deployment in APPLICATION["deployments"]:
        assert set(deployment) <= set(DeploymentSchema.model_fields), deployment["name"]
    ServeDeploySchema.model_validate(CONFIG)


def test_arguments_are_those_of_the_builder_and_every_deployment_is_named():
    args = AppArgs.model_validate(APPLICATION["args"])
    assert build.__annotations__["args"] is AppArgs, "Serve validates only against a class"
    named = {deployment["name"] for deployment in APPLICATION["deployments"]}
    assert named == {"Ingress", "Driver", "Dispatcher", *args.hosts}


def test_a_driver_admits_as_many_jobs_as_the_dispatcher_hands_out():
    (driver,) = (d for d in APPLICATION["deployments"] if d["name"] == "Driver")
    assert driver["max_ongoing_requests"] == APPLICATION["args"]["max_running_jobs"]


def test_every_port_may_have_a_host_of_its_own():
    apart = AppArgs.model_validate({"hosts": {port.title(): [port] for port in PortName}})
    assert apart.hosts["Exporter"] == (PortName.EXPORTER,)
    assert AppArgs.model_validate({"hosts": {"All": [*PortName]}})
    assert AppArgs().hosts["Splats"] == (PortName.SPLATS, PortName.EXPORTER)
    assert set(APPLICATION["args"]["engines"]) == set(PortName)


def test_it_listens_on_loopback_unless_told_otherwise():
    assert CONFIG["http_options"]["host"] == "127.0.0.1"


@pytest.mark.parametrize(
    "args",
    [
        {"engine": {}},
        {"engines": {"views": "magic"}},
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
