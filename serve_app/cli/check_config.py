"""What is wrong with a `serve_config.yaml`, in sentences, before a cluster is asked.

Ray Serve takes unknown keys in silence, and it knows neither engines nor what they need. This knows
the file and no machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ValidationError
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy
from ray.serve.schema import (
    DeploymentSchema,
    HTTPOptionsSchema,
    LoggingConfig,
    RayActorOptionsSchema,
    ServeApplicationSchema,
    ServeDeploySchema,
)

from deployments.batching import BatchSettings
from deployments.jobs.outbox import WebhookRules
from deployments.jobs.rows import JobKind
from deployments.scaling import QueuedWork
from pipeline.errors import InvalidInput, InvalidOption
from pipeline.options import DeviceName
from serve_app.builder import INGRESS_ONGOING_REQUESTS, MODEL_ONGOING_REQUESTS, limits_of
from serve_app.settings import AppArgs

_OURS = ("Ingress", "Dispatcher", "Driver")

#: What a deployment holds beside plain values.
_PARTS: dict[str, type[BaseModel]] = {
    "ray_actor_options": RayActorOptionsSchema,
    "autoscaling_config": AutoscalingConfig,
    "user_config": BatchSettings,
}

#: Serve takes 0 for some of them: a replica that is stopped would be killed at once.
_DURATIONS = (
    "graceful_shutdown_timeout_s",
    "graceful_shutdown_wait_loop_s",
    "health_check_period_s",
    "health_check_timeout_s",
)


def read_config(path: Path) -> dict[str, Any]:
    """The file as Serve reads it. Raises InvalidInput where it is no mapping in YAML."""
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} is not YAML: {error}") from error
    if not isinstance(config, dict):
        raise InvalidInput(f"{path} holds no keys.")
    return config


def config_faults(
    config: Mapping[str, Any],
    *,
    gpus: int | None = None,
    memory_gib: float | None = None,
    nodes: int | None = None,
) -> list[str]:
    """Everything that is wrong; empty for a file that can be deployed.

    Args:
        gpus: cards of the cluster; None does not compare the shares with them.
        memory_gib: of one card; None does not compare the shares with what engines need.
        nodes: of the cluster; None does not ask whether all of them reach the database.
    """
    # Serve's own validators take it for granted.
    if wrong := [*_no_mappings(config)]:
        return wrong
    faults = [*_unknown_keys(config)]
    # Serve imports policies while it validates, and fails with the error of the import.
    if wrong := [*_absent_policies(config)] or _refusals(ServeDeploySchema, config, ""):
        return faults + wrong
    applications = config.get("applications", [])
    if len(applications) != 1:
        return [*faults, f"There must be one application, there are {len(applications)}."]
    (application,) = applications
    given = application.get("args") or {}
    if wrong := _refusals(AppArgs, given, "args."):
        return faults + wrong
    args = AppArgs.model_validate(given)
    # With the numbers that Serve makes of texts such as "0.5".
    (parsed,) = ServeDeploySchema.model_validate(config).applications
    deployments = {d.name: d.model_dump(exclude_unset=True) for d in parsed.deployments}
    # Values that Serve's schema lets through: where they are wrong, it takes a plain mapping.
    for name, deployment in deployments.items():
        scaling = deployment.get("autoscaling_config") or {}
        wrong += _refusals(AutoscalingConfig, scaling, f"{name}.autoscaling_config.")
    if wrong:
        return faults + wrong
    faults += _names(deployments, args)
    faults += _batches(deployments, args)
    faults += _jobs(deployments, args)
    faults += _ingress(deployments, args)
    faults += _scaling(deployments, config)
    faults += _durations(deployments)
    faults += _timeouts(config, args)
    faults += _webhooks(args)
    faults += _database(args, nodes)
    faults += _shares(deployments, args, gpus, memory_gib)
    return faults


def _refusals(model: type[BaseModel], values: object, prefix: str) -> list[str]:
    """What the model says against the values, a sentence a fault."""
    try:
        model.model_validate(values)
    except ValidationError as error:
        return [
            f"{(prefix + '.'.join(map(str, fault['loc']))).rstrip('.')}: {fault['msg']}."
            for fault in error.errors()
        ]
    return []


def _unknown_keys(config: Mapping[str, Any]) -> Iterator[str]:
    def unknown(found: object, model: type[BaseModel], place: str) -> Iterator[str]:
        if isinstance(found, Mapping):
            for key in sorted(set(map(str, found)) - set(model.model_fields)):
                yield f"{place}{key}: there is no such key."

    yield from unknown(config, ServeDeploySchema, "")
    yield from unknown(config.get("http_options"), HTTPOptionsSchema, "http_options.")
    yield from unknown(config.get("logging_config"), LoggingConfig, "logging_config.")
    for application in _mappings(config.get("applications")):
        yield from unknown(application, ServeApplicationSchema, "application.")
        for name, deployment in _named(application):
            yield from unknown(deployment, DeploymentSchema, f"{name}.")
            for key, model in _PARTS.items():
                yield from unknown(deployment.get(key), model, f"{name}.{key}.")
            policy = f"{name}.autoscaling_config.policy."
            yield from unknown(_policy(deployment), AutoscalingPolicy, policy)


def _no_mappings(config: Mapping[str, Any]) -> Iterator[str]:
    """Entries of the lists of applications and deployments that hold no keys."""
    applications = config.get("applications")
    yield from _without_keys(applications, "applications")
    for i, application in enumerate(applications if isinstance(applications, list) else ()):
        if isinstance(application, Mapping):
            yield from _without_keys(
                application.get("deployments"), f"applications.{i}.deployments"
            )


def _without_keys(found: object, place: str) -> Iterator[str]:
    for i, one in enumerate(found if isinstance(found, list) else ()):
        if not isinstance(one, Mapping):
            yield f"{place}.{i}: must have keys, as `name: ...`, and is {one!r:.50}."


def _mappings(found: object) -> list[Mapping[str, Any]]:
    """The mappings of a list, whatever it is: what is wrong with the rest is told elsewhere."""
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def _named(application: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The deployments of an application that is not known to be right."""
    for deployment in _mappings(application.get("deployments")):
        yield str(deployment.get("name", "a deployment")), deployment


def _names(deployments: Mapping[str, Any], args: AppArgs) -> Iterator[str]:
    wanted = {*_OURS, *args.model_hosts}
    for name in sorted(wanted - set(deployments)):
        yield f"{name}: the deployment is missing; it would run with the defaults of the code."
    for name in sorted(set(deployments) - wanted):
        yield f"{name}: there is no such deployment; hosts are {sorted(args.model_hosts)}."


def _batches(deployments: Mapping[str, Any], args: AppArgs) -> Iterator[str]:
    for name in sorted(set(deployments) & set(args.model_hosts)):
        given = deployments[name].get("user_config") or {}
        if wrong := _refusals(BatchSettings, given, f"{name}.user_config."):
            yield from wrong
            continue
        most = BatchSettings.model_validate(given).max_batch_size
        ongoing = deployments[name].get("max_ongoing_requests", MODEL_ONGOING_REQUESTS)
        if most > ongoing:
            yield f"{name}: a batch of {most} never fills with max_ongoing_requests {ongoing}."


def _jobs(deployments: Mapping[str, Any], args: AppArgs) -> Iterator[str]:
    driver = deployments.get("Driver", {})
    each = driver.get("max_ongoing_requests", args.max_running_jobs)
    if each < args.max_running_jobs and _most_replicas(driver) * each < args.max_running_jobs:
        yield (
            f"Driver: {_most_replicas(driver)} replicas with max_ongoing_requests {each} never "
            f"run max_running_jobs {args.max_running_jobs}."
        )


def _ingress(deployments: Mapping[str, Any], args: AppArgs) -> Iterator[str]:
    ongoing = deployments.get("Ingress", {}).get("max_ongoing_requests", INGRESS_ONGOING_REQUESTS)
    held = limits_of(args).held_for_long
    if held >= ongoing:
        yield (
            f"Ingress: the budgets (max_waiting, max_streams...) let {held} requests stay, and "
            f"max_ongoing_requests {ongoing} leaves no room for others."
        )


def _most_replicas(deployment: Mapping[str, Any]) -> int:
    scaling = deployment.get("autoscaling_config")
    number = deployment.get("num_replicas")
    if number == "auto":
        usual = AutoscalingConfig.default()  # type: ignore[no-untyped-call]
        return int((scaling or {}).get("max_replicas", usual.max_replicas))
    if scaling is not None:
        return AutoscalingConfig.model_validate(scaling).max_replicas
    return 1 if number is None else int(number)


def _policy(deployment: Mapping[str, Any]) -> Mapping[str, Any]:
    """`autoscaling_config.policy`; empty where there is none or it is no mapping."""
    scaling = deployment.get("autoscaling_config")
    policy = scaling.get("policy") if isinstance(scaling, Mapping) else None
    return policy if isinstance(policy, Mapping) else {}


def _imported(name: str) -> object:
    """What an import path means to Serve: `module:name`, or with a dot in place of the colon."""
    module, _, attribute = name.partition(":") if ":" in name else name.rpartition(".")
    return getattr(import_module(module), attribute)


def _absent_policies(config: Mapping[str, Any]) -> Iterator[str]:
    for application in _mappings(config.get("applications")):
        for name, deployment in _named(application):
            function = _policy(deployment).get("policy_function")
            try:
                if function is not None:
                    _imported(str(function))
            except (ImportError, AttributeError, TypeError, ValueError) as error:
                place = f"{name}.autoscaling_config.policy"
                yield f"{place}: {function} cannot be imported: {error}."


def _scaling(deployments: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[str]:
    port = HTTPOptionsSchema.model_validate(config.get("http_options") or {}).port
    for name, deployment in deployments.items():
        policy = _policy(deployment)
        place = f"{name}.autoscaling_config.policy.policy_kwargs"
        function = policy.get("policy_function")
        if function is None or _imported(function) is not QueuedWork:
            continue
        arguments = policy.get("policy_kwargs") or {}
        try:
            QueuedWork(**arguments)
            url = urlsplit(arguments["url"])
            asked = url.port or {"http": 80, "https": 443}[url.scheme]
        except (TypeError, ValueError) as error:
            # In the controller nobody would catch it.
            yield f"{place}: {error}."
            continue
        for kind in arguments.get("kinds") or []:
            if kind not in [*JobKind]:
                kinds = ", ".join(JobKind)
                yield f"{place}.kinds: there are no {kind} jobs; there are {kinds}."
        if asked != port:
            yield f"{place}.url: port {asked} is not http_options.port {port}."


def _durations(deployments: Mapping[str, Any]) -> Iterator[str]:
    for name, deployment in deployments.items():
        for key in _DURATIONS:
            value = deployment.get(key)
            if value is not None and value <= 0:
                yield f"{name}.{key}: must be above 0 s, not {value:g}."


def _timeouts(config: Mapping[str, Any], args: AppArgs) -> Iterator[str]:
    limit = (config.get("http_options") or {}).get("request_timeout_s")
    for what, name in (
        ("a request that waits for its job", "max_wait_s"),
        ("an event stream", "max_stream_s"),
    ):
        if limit is not None and limit <= getattr(args, name):
            yield (
                f"http_options.request_timeout_s: {limit:g} s cut off {what} "
                f"({name} {getattr(args, name):g})."
            )


def _webhooks(args: AppArgs) -> Iterator[str]:
    if args.webhook_secret is None:
        return
    try:
        WebhookRules(args.webhook_secret, args.webhook_networks)
    except InvalidOption as error:
        yield f"args.webhook_secret, args.webhook_networks: {error}"


def _database(args: AppArgs, nodes: int | None) -> Iterator[str]:
    if nodes is not None and nodes > 1 and args.stores().is_of_one_node:
        yield (
            f"args.database_url: {nodes} nodes need a server that all of them reach; null is "
            "PostgreSQL on one node. With it, asset_dir must be a folder that all nodes see."
        )


def _shares(
    deployments: Mapping[str, Any], args: AppArgs, gpus: int | None, memory_gib: float | None
) -> Iterator[str]:
    choice = args.engine_choice()
    total = 0.0
    for name, ports in args.model_hosts.items():
        deployment = deployments.get(name, {})
        actor = deployment.get("ray_actor_options") or {}
        share = actor.get("num_gpus", args.gpu_shares.get(name, 0)) or 0
        total += share * _most_replicas(deployment)
        specs = [choice.spec(port) for port in ports]
        engines = [spec.name for spec in specs if spec.on_device]
        if share > 1:
            yield f"{name}: num_gpus {share:g}, but no engine uses more than one GPU."
        if engines and not share and args.device == DeviceName.CUDA:
            yield f"{name}: {', '.join(engines)} need a GPU (device: cuda), and num_gpus is 0."
        if share and not engines:
            yield f"{name}: num_gpus {share:g}, but its engines compute on the CPU."
        needs = sum(spec.demand.total for spec in specs if spec.demand)
        if share and memory_gib is not None and min(share, 1) * memory_gib < needs:
            yield (
                f"{name}: {', '.join(engines)} need {needs:.1f} GiB, and num_gpus {share:g} of "
                f"{memory_gib:g} GiB are {share * memory_gib:.1f}."
            )
    if gpus is not None and total > gpus + 1e-9:
        yield f"With all replicas up, {total:.2f} GPUs are lent; there are {gpus}."
