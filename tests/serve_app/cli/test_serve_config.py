"""`serve_config.yaml` says what the code understands: Serve itself ignores unknown keys."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from pipeline.engines.registry import PRESETS, spec_of
from pipeline.errors import InvalidOption
from pipeline.ports import PortName
from serve_app.builder import Parts, build, compose, limits_of
from serve_app.cli.check_config import config_faults, read_config
from serve_app.cli.main import app
from serve_app.cli.plan import HOSTS, make_plan, scaling
from serve_app.settings import AppArgs
from tests.fakes import FakeStores

ROOT = Path(__file__).parents[3]
FILES = [ROOT / "serve_config.yaml", *sorted((ROOT / "deploy").glob("serve_config.*.yaml"))]

CPU = ROOT / "deploy" / "serve_config.cpu.yaml"

#: GPUs of each file, and the memory of one that its comments speak of.
GPUS = {
    "serve_config.yaml": 1,
    "serve_config.4gpu.yaml": 4,
    "serve_config.8gpu.yaml": 8,
    "serve_config.triposplat.yaml": 1,
    "serve_config.triposplat.4gpu.yaml": 4,
    "serve_config.triposplat.8gpu.yaml": 8,
}
MEMORY_GIB = 24


def read(path: Path) -> dict[str, Any]:
    return read_config(path)


def application_of(config: dict[str, Any]) -> dict[str, Any]:
    (application,) = config["applications"]
    return application


def engines_of(name: str) -> str:
    """The set of engines that a file is for."""
    return "triposplat" if "triposplat" in name else "gpu"


def file_of(name: str) -> Path:
    return next(path for path in FILES if path.name == name)


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


def test_nodes_that_do_not_reach_the_database_are_told(tmp_path):
    config = read(CPU)
    for nodes in (None, 1):
        assert config_faults(config, nodes=nodes) == []
    (fault,) = config_faults(config, nodes=3)
    assert fault.startswith("args.database_url: 3 nodes need")
    for store in ({"database_url": "postgresql://u@h/d"}, {"supabase_url": "https://a.b"}):
        args = application_of(config)["args"] | {"database_url": None} | store
        application_of(config)["args"] = args | {"supabase_key": "k"}
        assert config_faults(config, nodes=3) == []
        application_of(config)["args"] = {k: v for k, v in args.items() if k not in store}
    told = CliRunner().invoke(app, ["check-config", str(CPU), "--nodes", "2"])
    assert told.exit_code == 3
    assert "database_url" in told.output
    del tmp_path


@pytest.mark.parametrize(("alive", "is_refused"), [(1, False), (2, True), (3, True)])
def test_a_database_of_one_node_is_refused_on_several(
    alive: int, is_refused: bool, monkeypatch, tmp_path
):
    nodes = [{"NodeManagerHostname": f"host-{n}", "Alive": n < alive} for n in range(4)]
    prepared: list[str] = []
    stores = FakeStores(prepared)
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    monkeypatch.setattr("ray.nodes", lambda: nodes)
    parts = Parts(stores=lambda args: replace(stores, is_of_one_node=args.database_url is None))
    compose(AppArgs(asset_dir=tmp_path, database_url="postgresql://u@h/d"), parts)
    assert prepared.pop() == "prepared"
    if is_refused:
        with pytest.raises(InvalidOption, match=r"host-0, host-1.*database_url"):
            compose(AppArgs(asset_dir=tmp_path), parts)
        assert prepared == [], "nothing was started"
    else:
        compose(AppArgs(asset_dir=tmp_path), parts)


def test_one_deployment_with_one_replica_starts_the_database(tmp_path):
    application = compose(AppArgs(asset_dir=tmp_path), Parts(stores=lambda args: FakeStores([])))
    ingress = application._bound_deployment
    driver, dispatcher = (bound._bound_deployment for bound in ingress.init_args[3:5])
    keepers = {d.name: d.init_args[0].is_keeper for d in (ingress, driver, dispatcher)}
    assert keepers == {"Dispatcher": True, "Ingress": False, "Driver": False}


def test_a_driver_admits_as_many_jobs_as_the_dispatcher_hands_out(path):
    driver = deployments_of(path)["Driver"]
    args = application_of(read(path))["args"]
    assert driver["max_ongoing_requests"] == args["max_running_jobs"]


def test_requests_that_are_held_for_long_leave_room_and_what_waits_has_a_limit(path):
    ingress = deployments_of(path)["Ingress"]
    args = AppArgs.model_validate(application_of(read(path))["args"])
    assert limits_of(args).held_for_long + 64 <= ingress["max_ongoing_requests"]
    assert ingress["max_queued_requests"] > 0
    assert ingress["backpressure_config"] == {"status_code": 503, "retry_after_s": 2}


def test_an_upload_waits_for_no_other_model(path):
    """A replica takes one call after the other, and a refinement's take many seconds."""
    written = application_of(read(path))["args"].get("hosts")
    for args in (AppArgs(), AppArgs.model_validate({"hosts": written})):
        (host,) = [ports for ports in args.hosts.values() if PortName.BACKGROUND in ports]
        assert host == (PortName.BACKGROUND,)


def test_every_port_may_have_a_host_of_its_own():
    apart = AppArgs.model_validate({"hosts": {port.title(): [port] for port in PortName}})
    assert apart.hosts["Exporter"] == (PortName.EXPORTER,)
    assert AppArgs.model_validate({"hosts": {"All": [*PortName]}})
    assert AppArgs().hosts["Splats"] == (PortName.SPLATS, PortName.EXPORTER)


def test_a_killed_ingress_or_driver_leaves_the_others_at_work():
    """Not on one machine without a GPU, whose cores they would only share."""
    for name in GPUS:
        deployments = deployments_of(next(p for p in FILES if p.name == name))
        assert deployments["Ingress"]["num_replicas"] >= 2
        assert deployments["Driver"]["autoscaling_config"]["max_replicas"] >= 2
        assert deployments["Dispatcher"]["num_replicas"] == 1
    assert all(replicas(d) == 1 for d in deployments_of(CPU).values())


def test_a_draining_driver_is_given_the_time_to_hand_its_jobs_over(path):
    assert deployments_of(path)["Driver"]["graceful_shutdown_timeout_s"] == 60


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


#: Splats have a second replica there, for fits of many projects.
BY_HAND = ("serve_config.8gpu.yaml",)


@pytest.mark.parametrize("name", [name for name in GPUS if name not in BY_HAND])
def test_gpus_are_divided_as_the_plan_says(name):
    deployments = deployments_of(file_of(name))
    plan = make_plan(GPUS[name], MEMORY_GIB, engines=PRESETS[engines_of(name)])
    placed = {host for host in HOSTS if shares(file_of(name)).get(host)}
    assert placed == {placement.host for placement in plan.placements}
    for planned in plan.deployments():
        found = deployments[planned["name"]]
        assert {key: found[key] for key in planned} == planned


@pytest.mark.parametrize("name", GPUS)
def test_models_scale_as_in_the_plan(name):
    deployments = deployments_of(next(p for p in FILES if p.name == name))
    scaled = {h: deployments[h].get("autoscaling_config") for h in HOSTS if h in deployments}
    scaled = {host: config for host, config in scaled.items() if config}
    assert bool(scaled) == (GPUS[name] > 1)
    for host, config in scaled.items():
        assert config == scaling(host, config["max_replicas"])
        assert config["policy"]["policy_function"] == "deployments.scaling:QueuedWork"


def test_gpu_files_name_the_gpu_engines_and_insist_on_a_gpu():
    for path in FILES:
        args = AppArgs.model_validate(application_of(read(path))["args"])
        if path.name in GPUS:
            assert args.engines == PRESETS[engines_of(path.name)]
            assert args.device == "cuda"
        else:
            specs = [spec_of(*chosen) for chosen in args.engines.items()]
            assert [spec.name for spec in specs if spec.on_device] == ["prior"], "it needs none"


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
DRIVER = f"{APP}/deployments/Driver"


@pytest.mark.parametrize(
    ("changes", "expected"),
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
        ({f"{APP}/args/max_running_jobs": 9}, "Driver: 2 replicas with max_ongoing_requests 4"),
        ({f"{DRIVER}/max_ongoing_requests": 1}, "2 replicas with max_ongoing_requests 1 never"),
        ({f"{APP}/args/max_streams": 400}, "Ingress: the budgets (max_waiting"),
        ({"http_options/request_timeout_s": 30}, "cut off a request that waits"),
        ({"http_options/request_timeout_s": 600}, "cut off a request that waits"),
        ({"http_options/request_timeout_s": 299}, "cut off an event stream (max_stream_s 300)"),
        (
            {"http_options/request_timeout_s": 700, f"{APP}/args/max_stream_s": 700},
            "cut off an event stream (max_stream_s 700)",
        ),
        ({f"{DRIVER}/graceful_shutdown_timeout_s": 0}, "graceful_shutdown_timeout_s: must be abo"),
        ({f"{DRIVER}/graceful_shutdown_wait_loop_s": 0}, "shutdown_wait_loop_s: must be above 0"),
        ({f"{DRIVER}/graceful_shutdown_timeout_s": -1}, "graceful_shutdown_timeout_s: Input sh"),
        ({f"{DRIVER}/health_check_period_s": 0}, "health_check_period_s: Input should be"),
        ({f"{DRIVER}/health_check_timeout_s": -5}, "health_check_timeout_s: Input should be"),
        ({f"{DRIVER}/num_replicas": 2}, "num_replicas is not allowed when autoscaling_config"),
        (
            {f"{DRIVER}/autoscaling_config/min_replicas": 3},
            "Driver.autoscaling_config: Value error, max_replicas (2) must be greater",
        ),
        ({f"{DRIVER}/autoscaling_config/max_replicas": 0}, "autoscaling_config.max_replicas: In"),
        ({f"{DRIVER}/autoscaling_config/upscale_delay_s": -1}, "upscale_delay_s: Input should"),
        ({f"{APP}/args/webhook_secret": "x"}, "args.webhook_secret, args.webhook_networks: The"),
        ({f"{APP}/deployments/Views/ray_actor_options/num_gpus": 2}, "no engine uses more than"),
        ({f"{APP}/deployments/Views/ray_actor_options/num_gpus": 0}, "syncdreamer need a GPU"),
        ({f"{APP}/deployments/Exporter/ray_actor_options/num_gpus": 0.1}, "compute on the CPU"),
        ({f"{APP}/deployments/Views/ray_actor_options/num_gpus": 0.2}, "need 6.7 GiB"),
        ({f"{APP}/deployments/Views/ray_actor_options/num_gpus": 0.4}, "1.10 GPUs are lent"),
    ],
)
def test_what_is_wrong_is_said(changes, expected):
    assert config_faults(changed({}), gpus=1, memory_gib=MEMORY_GIB) == []
    faults = config_faults(changed(changes), gpus=1, memory_gib=MEMORY_GIB)
    assert any(expected in fault for fault in faults), faults


def places(found, above=()):
    """Every place of a file, as the keys that lead there."""
    if above:
        yield above
    if isinstance(found, dict | list):
        for key, part in found.items() if isinstance(found, dict) else enumerate(found):
            yield from places(part, (*above, key))


@pytest.mark.parametrize("odd", [3, "0", [3], {}, None, [[]], True], ids=repr)
def test_whatever_stands_somewhere_it_is_faults_and_no_exception(odd):
    sound = changed({})
    for *above, key in places(sound):
        config = deepcopy(sound)
        holder = config
        for step in above:
            holder = holder[step]
        holder[key] = odd
        faults = config_faults(config, gpus=1, memory_gib=MEMORY_GIB)
        assert all(isinstance(fault, str) for fault in faults)


def test_entries_without_keys_are_named():
    config = changed({})
    config["applications"][0]["deployments"] = [3]
    assert config_faults(config) == [
        "applications.0.deployments.0: must have keys, as `name: ...`, and is 3."
    ]


URL = "http://127.0.0.1:8000/api/v1/queue"


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ({"policy_function": "deployments.scalin:QueuedWork"}, "No module named 'deployments.sca"),
        ({"policy_function": "deployments.scaling:QueueWork"}, "has no attribute 'QueueWork'"),
        ({"policy_function": "deployments.scaling.Nothing"}, "has no attribute 'Nothing'"),
        ({"policy_function": "QueuedWork"}, "QueuedWork cannot be imported"),
        ({"policy_function": ".scaling:QueuedWork"}, "cannot be imported"),
        ({"policy_function": 5}, "5 cannot be imported"),
        ({"policy_functions": "x"}, "policy.policy_functions: there is no such key"),
        ({"policy_kwargs": {}}, "policy_kwargs: QueuedWork.__init__() missing 1 required"),
        ({"policy_kwargs": {"url": URL, "jobs": 2}}, "unexpected keyword argument 'jobs'"),
        ({"policy_kwargs": {"url": "127.0.0.1"}}, "must begin with http://"),
        ({"policy_kwargs": {"url": URL, "jobs_per_replica": 0}}, "must be above 0"),
        ({"policy_kwargs": {"url": URL, "jobs_per_replica": "two"}}, "'<' not supported"),
        ({"policy_kwargs": {"url": URL, "kinds": ["paint"]}}, "there are no paint jobs; there are"),
        ({"policy_kwargs": {"url": "http://127.0.0.1:8001/q"}}, "port 8001 is not http_options.po"),
        ({"policy_kwargs": {"url": "http://127.0.0.1/q"}}, "port 80 is not http_options.port 8000"),
        ({"policy_kwargs": {"url": "http://127.0.0.1:x/q"}}, "Port could not be cast"),
    ],
)
def test_what_is_wrong_with_a_policy_is_said(policy, told):
    right = {"policy_function": "deployments.scaling:QueuedWork", "policy_kwargs": {"url": URL}}
    place = f"{APP}/deployments/Views"

    def faults(policy: dict[str, Any]) -> list[str]:
        scaled = {"min_replicas": 1, "max_replicas": 1, "policy": policy}
        config = changed({f"{place}/num_replicas": None, f"{place}/autoscaling_config": scaled})
        return config_faults(config, gpus=1, memory_gib=MEMORY_GIB)

    assert faults(right) == []
    assert any("Views.autoscaling_config.policy" in f and told in f for f in faults(right | policy))


def test_a_moved_port_moves_the_policies_url():
    config = read(ROOT / "deploy" / "serve_config.4gpu.yaml")
    config["http_options"]["port"] = 9000
    (fault,) = config_faults(config, gpus=4, memory_gib=MEMORY_GIB)
    assert "port 8000 is not http_options.port 9000" in fault


@pytest.mark.parametrize(
    ("changes", "lent"),
    [
        ({"autoscaling_config": {"max_replicas": 2}, "num_replicas": None}, "1.26"),
        ({"autoscaling_config": {"max_replicas": 3}, "num_replicas": "auto"}, "1.54"),
        ({"num_replicas": 2}, "1.26"),
        ({"num_replicas": "auto"}, "28.70"),
    ],
)
def test_every_replica_that_may_come_is_counted(changes, lent):
    config = changed({f"{APP}/deployments/Views/{key}": value for key, value in changes.items()})
    assert config_faults(config, gpus=29, memory_gib=MEMORY_GIB) == []
    (fault,) = config_faults(config, gpus=1, memory_gib=MEMORY_GIB)
    assert f"{lent} GPUs are lent; there are 1." in fault


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


def test_a_generator_has_a_host_of_its_own_unless_the_hosts_are_named():
    args = AppArgs.model_validate({"engines": "triposplat", "gpu_shares": {"Generator": 0.5}})
    assert args.model_hosts == {**AppArgs().hosts, "Generator": (PortName.GENERATOR,)}
    assert args.engine_choice().generator == "triposplat"
    assert AppArgs().model_hosts == AppArgs().hosts
    assert not AppArgs().has_generator
    named = {name: list(ports) for name, ports in AppArgs().hosts.items()}
    with pytest.raises(ValueError, match="hosts must name each of"):
        AppArgs.model_validate({"engines": "triposplat", "hosts": named})
    together = AppArgs.model_validate(
        {"engines": "triposplat", "hosts": {**named, "Splats": ["splats", "exporter", "generator"]}}
    )
    assert "Generator" not in together.model_hosts
    with pytest.raises(ValueError, match="gpu_shares names 'Generator'"):
        AppArgs.model_validate({"gpu_shares": {"Generator": 0.5}})
