"""`serve_config.yaml` says what the code understands: Serve itself ignores unknown keys."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from pipeline.engines import ON_DEVICE, PRESETS, PortName
from serve_app.builder import build
from serve_app.cli import app
from serve_app.config_check import config_faults, read_config
from serve_app.plan import HOSTS, make_plan
from serve_app.settings import AppArgs

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "serve_config.yaml", *sorted((ROOT / "deploy").glob("serve_config.*.yaml"))]

#: GPUs of each file, and the memory of one that its comments speak of.
GPUS = {"serve_config.yaml": 1, "serve_config.4gpu.yaml": 4, "serve_config.8gpu.yaml": 8}
MEMORY_GIB = 24


def read(path: Path) -> dict[str, Any]:
    return read_config(path)


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


def test_it_can_be_deployed(path):
    gpus = GPUS.get(path.name, 0)
    assert config_faults(read_config(path), gpus=gpus, memory_gib=MEMORY_GIB) == []
    assert build.__annotations__["args"] is AppArgs, "Serve validates only against a class"


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


# -- what is wrong is said -----------------------------------------------------------------------


def changed(changes: dict[str, Any]) -> dict[str, Any]:
    """The file for one GPU with values replaced by path; a deployment goes by its name."""
    config = read(ROOT / "serve_config.yaml")
    for path, value in changes.items():
        owner: Any = config
        *parents, last = path.split("/")
        for key in parents:
            if isinstance(owner, list):
                owner = next(one for one in owner if one["name"] == key)
            else:
                owner = owner.setdefault(key, {})
        if isinstance(owner, list):
            owner[:] = [one for one in owner if one["name"] != last]
        else:
            owner[last] = value
    return config


APP = "applications/glimpse3d"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"proxy": 1}, "proxy: there is no such key"),
        ({"http_options/prot": 1}, "http_options.prot: there is no such key"),
        ({f"{APP}/argss": {}}, "application.argss: there is no such key"),
        ({f"{APP}/deployments/Views/max_ongoing_request": 8}, "Views.max_ongoing_request: there"),
        ({f"{APP}/deployments/Views/ray_actor_options/num_gpu": 1}, "num_gpu: there is no such"),
        ({f"{APP}/deployments/Views/autoscaling_config/max": 1}, "autoscaling_config.max: there"),
        ({f"{APP}/deployments/Depth/user_config/batch": 1}, "user_config.batch: there is no such"),
        ({f"{APP}/deployments/Views/num_replicas": -1}, "num_replicas"),
        ({f"{APP}/args/engine": "gpu"}, "args.engine: "),
        ({f"{APP}/args/device": "tpu"}, "args.device: "),
        ({f"{APP}/deployments/Splats": None}, "Splats: the deployment is missing"),
        ({f"{APP}/deployments/Views/name": "View"}, "View: there is no such deployment"),
        ({f"{APP}/deployments/Depth/max_ongoing_requests": 4}, "a batch of 8 never fills"),
        ({f"{APP}/args/max_running_jobs": 9}, "never run max_running_jobs 9"),
        ({"http_options/request_timeout_s": 30}, "cut off a request that waits"),
        ({f"{APP}/deployments/Views/ray_actor_options/num_gpus": 2}, "no engine uses more than"),
        ({f"{APP}/deployments/Views/ray_actor_options/num_gpus": 0}, "syncdreamer need a GPU"),
        ({f"{APP}/deployments/Exporter/ray_actor_options/num_gpus": 0.1}, "compute on the CPU"),
        ({f"{APP}/deployments/Views/ray_actor_options/num_gpus": 0.2}, "need 6.7 GiB"),
        ({f"{APP}/deployments/Views/ray_actor_options/num_gpus": 0.4}, "1.10 GPUs are lent"),
    ],
)
def test_what_is_wrong_is_said(changes, told):
    assert config_faults(changed({}), gpus=1, memory_gib=MEMORY_GIB) == []
    faults = config_faults(changed(changes), gpus=1, memory_gib=MEMORY_GIB)
    assert any(told in fault for fault in faults), faults


def test_the_command_says_it_with_an_exit_code(tmp_path):
    ask = CliRunner().invoke
    assert ask(app, ["check-config", str(ROOT / "serve_config.yaml")]).exit_code == 0
    small = ask(app, ["check-config", str(ROOT / "serve_config.yaml"), "--memory", "16"])
    assert small.exit_code == 3
    assert "sdxl need 10.9 GiB" in small.output
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("a: [")
    assert "is not YAML" in ask(app, ["check-config", str(wrong)]).output
    wrong.write_text("- a list")
    assert "holds no keys" in ask(app, ["check-config", str(wrong)]).output


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
