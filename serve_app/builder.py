# No `from __future__ import annotations` here: Serve reads the annotation of `build` as a class.
"""Binds the deployments into one Serve application.

What is true of a model stands here (how it is called, how long it may take to drain); what is
true of a machine (GPUs, replicas, queues) stands in `serve_config.yaml`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import ray
from ray import serve
from ray.serve import Application

from deployments.dispatcher import Dispatcher, DispatcherSettings
from deployments.driver import Driver
from deployments.handles import HandlePorts
from deployments.jobs.janitor import JanitorSettings
from deployments.jobs.runner import RunnerSettings
from deployments.model_host import ModelHost
from pipeline.errors import InvalidOption
from pipeline.ports import PortName
from serve_app.http.dependencies import Limits, Services
from serve_app.ingress import Ingress
from serve_app.settings import AppArgs
from serve_app.stores import Stores

#: Longest honest call: a draining model may finish it.
_STAGE_LIMIT_S = 900

#: A draining driver hands its jobs over within seconds; steps of engines end in between.
_HAND_OVER_LIMIT_S = 60

#: A replica that cannot start (no compiler, a damaged weight) fails the deployment after this
#: many tries instead of Serve's 20.
_START_TRIES = 2

#: Calls wait in a model's lane, not in the router: cancelling and health stay possible.
MODEL_ONGOING_REQUESTS = 64

#: A request that waits for its job holds one all the while, and so does a stream: more than
#: `Limits.held_for_long`, so that others find room.
INGRESS_ONGOING_REQUESTS = 512

#: Models yield to drivers, and both to the ingress, where they share cores. Much: either runs a
#: thread per file or core, and the scheduler weighs threads, not processes.
_MODEL_NICENESS, _DRIVER_NICENESS = 12, 10

#: CPUs are shared by design: Ray's bookkeeping must not keep replicas apart on a small machine.
_NO_RESERVATION = {"num_cpus": 0}


@dataclass(frozen=True)
class Parts:
    """What a test or a bench puts in place of ours.

    Attributes:
        host: hosts the models; called like `ModelHost`.
        stores: where rows and files are.
        driver: settings of the driver beside those of `args`.
        options: more options of deployments, by name.
    """

    host: type[Any] = ModelHost
    stores: Callable[[AppArgs], Stores] = AppArgs.stores
    driver: dict[str, Any] = field(default_factory=dict)
    options: dict[str, dict[str, Any]] = field(default_factory=dict)


def build(args: AppArgs) -> Application:
    """The application. Starts the embedded database when `args` name no other."""
    return compose(args, Parts())


def limits_of(args: AppArgs) -> Limits:
    """What requests may cost, by these arguments."""
    return Limits(
        max_wait_s=args.max_wait_s,
        max_running_jobs=args.max_running_jobs,
        max_queued_jobs=args.max_queued_jobs,
        max_stream_s=args.max_stream_s,
        max_waiting=args.max_waiting,
        max_streams=args.max_streams,
        max_uploads=args.max_uploads,
        max_downloads=args.max_downloads,
        max_download_bytes=args.max_download_bytes,
        client_share=args.client_share,
    )


def compose(args: AppArgs, parts: Parts) -> Application:
    """The application, made of these parts.

    Raises:
        InvalidOption: the cluster has several nodes, and the database would be one node's own.
    """
    stores = parts.stores(args)
    if stores.is_of_one_node:
        _require_one_node()
    stores = stores.prepare()
    choice = args.engine_choice()
    webhooks = args.webhook_rules()

    def deployment(name: str, **options: Any) -> Any:
        options |= {"max_constructor_retry_count": _START_TRIES, **parts.options.get(name, {})}
        return serve.deployment(name=name, **options)

    hosts = {
        name: deployment(
            name,
            max_ongoing_requests=MODEL_ONGOING_REQUESTS,
            graceful_shutdown_timeout_s=_STAGE_LIMIT_S,
            request_router_config={"request_router_class": "deployments.routing:LeastLoaded"},
            # A hung engine is found by its health.
            health_check_period_s=5,
            ray_actor_options={**_NO_RESERVATION, "num_gpus": args.gpu_shares.get(name, 0)},
        )(parts.host).bind(choice, ports, niceness=_MODEL_NICENESS, call_limit_s=args.call_limit_s)
        for name, ports in args.model_hosts.items()
    }
    by_port = {port: hosts[name] for name, ports in args.model_hosts.items() for port in ports}
    # Serve replaces applications by handles wherever it finds them in the arguments.
    handles: dict[str, Any] = {port.value: by_port[port] for port in choice.ports}

    driver = deployment(
        "Driver",
        max_ongoing_requests=args.max_running_jobs,
        graceful_shutdown_timeout_s=_HAND_OVER_LIMIT_S,
        ray_actor_options=_NO_RESERVATION,
    )(Driver).bind(
        stores,
        HandlePorts(**handles),
        RunnerSettings(lease_s=args.lease_s, model_dir=args.model_dir, **parts.driver),
        _DRIVER_NICENESS,
    )
    dispatcher = deployment(
        "Dispatcher",
        # Health checks keep its loops alive.
        health_check_period_s=2,
        ray_actor_options=_NO_RESERVATION,
    )(Dispatcher).bind(
        # The one deployment with one replica: whatever else opens the store only uses its server.
        stores.for_keeper(),
        driver,
        DispatcherSettings(
            max_running_jobs=args.max_running_jobs,
            lease_s=args.lease_s,
            poll_s=stores.pace.poll_s,
            tidy_s=stores.pace.tidy_s,
            janitor=JanitorSettings(
                history_ttl_s=args.history_ttl_s, project_ttl_s=args.project_ttl_s
            ),
            webhooks=webhooks,
        ),
    )
    application: Application = deployment(
        "Ingress",
        max_ongoing_requests=INGRESS_ONGOING_REQUESTS,
        # A proxy lets so many more wait, and refuses the others at once.
        max_queued_requests=256,
        backpressure_config={"status_code": 503, "retry_after_s": 2},
        ray_actor_options=_NO_RESERVATION,
    )(serve.ingress()(Ingress)).bind(
        stores,
        by_port[PortName.BACKGROUND],
        hosts,
        driver,
        dispatcher,
        partial(
            Services,
            limits=limits_of(args),
            reach=args.reach(),
            client_header=args.client_header,
            webhooks=webhooks,
            engines=choice,
        ),
    )
    return application


def _require_one_node() -> None:
    names = sorted(node["NodeManagerHostname"] for node in _living_nodes())
    if len(names) > 1:
        raise InvalidOption(
            f"The cluster has {len(names)} nodes ({', '.join(names)}), and without database_url "
            "PostgreSQL runs on one of them, where the others do not reach it. Name a server for "
            "all in database_url (DATABASE_URL), with an asset_dir that all nodes see, or a "
            "project in supabase_url."
        )


def _living_nodes() -> list[dict[str, Any]]:
    """Of the cluster that this process is connected to."""
    nodes = ray.nodes() if ray.is_initialized() else []  # type: ignore[no-untyped-call]
    return [node for node in nodes if node["Alive"]]
