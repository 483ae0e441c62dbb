# No `from __future__ import annotations` here: Serve reads the annotation of `build` as a class.
"""Binds the deployments into one Serve application.

What is true of a model stands here (how it is called, how long it may take to drain); what is
true of a machine (GPUs, replicas, queues) stands in `serve_config.yaml`.
"""

from typing import Any

from ray import serve
from ray.serve import Application

from deployments.dispatcher import Dispatcher, DispatcherSettings
from deployments.driver import Driver, DriverSettings
from deployments.handles import HandlePorts
from deployments.model_host import ModelHost
from pipeline.engines import PortName
from serve_app.ingress import Ingress, IngressSettings
from serve_app.services import Limits
from serve_app.settings import AppArgs
from serve_app.stores import StoreSettings

__all__ = ["MODEL_ONGOING_REQUESTS", "build"]

#: Longest honest call: a draining replica may finish it.
_STAGE_LIMIT_S = 900

#: A replica that cannot start (no compiler, a damaged weight) fails the deployment after this
#: many tries instead of Serve's 20.
_START_TRIES = 2

#: Calls wait in a model's lane, not in the router: cancelling and health stay possible.
MODEL_ONGOING_REQUESTS = 64

#: Models yield to ingress and driver where they share cores.
_MODEL_NICENESS = 5

#: CPUs are shared by design: Ray's bookkeeping must not keep replicas apart on a small machine.
_NO_RESERVATION = {"num_cpus": 0}


def build(args: AppArgs) -> Application:
    """The application. Starts the embedded database when `args` name no other."""
    stores = StoreSettings(
        data_dir=args.asset_dir.resolve(), database_url=args.database_url
    ).prepare()
    choice = args.engine_choice()

    hosts = {
        name: serve.deployment(
            name=name,
            max_ongoing_requests=MODEL_ONGOING_REQUESTS,
            graceful_shutdown_timeout_s=_STAGE_LIMIT_S,
            max_constructor_retry_count=_START_TRIES,
            ray_actor_options={**_NO_RESERVATION, "num_gpus": args.gpu_shares.get(name, 0)},
        )(ModelHost).bind(choice, ports, niceness=_MODEL_NICENESS)
        for name, ports in args.hosts.items()
    }
    by_port = {port: hosts[name] for name, ports in args.hosts.items() for port in ports}
    # Serve replaces applications by handles wherever it finds them in the arguments.
    handles: dict[str, Any] = {port.value: by_port[port] for port in PortName}

    driver = serve.deployment(
        name="Driver",
        max_ongoing_requests=args.max_running_jobs,
        # Serve waits for running jobs to end, then kills the driver; the dispatcher gives what
        # was left to another one, which goes on at the first uncommitted stage.
        graceful_shutdown_timeout_s=_STAGE_LIMIT_S,
        max_constructor_retry_count=_START_TRIES,
        ray_actor_options=_NO_RESERVATION,
    )(Driver).bind(
        stores,
        HandlePorts(**handles),
        DriverSettings(lease_s=args.lease_s, model_dir=args.model_dir),
    )
    dispatcher = serve.deployment(
        name="Dispatcher",
        # Health checks keep its claim loop alive.
        health_check_period_s=2,
        max_constructor_retry_count=_START_TRIES,
        ray_actor_options=_NO_RESERVATION,
    )(Dispatcher).bind(
        stores,
        driver,
        DispatcherSettings(max_running_jobs=args.max_running_jobs, lease_s=args.lease_s),
    )
    application: Application = serve.deployment(
        name="Ingress",
        # A request that waits for its job holds a slot all the while.
        max_ongoing_requests=512,
        max_constructor_retry_count=_START_TRIES,
        ray_actor_options=_NO_RESERVATION,
    )(serve.ingress()(Ingress)).bind(
        stores,
        by_port[PortName.BACKGROUND],
        hosts,
        driver,
        dispatcher,
        IngressSettings(
            limits=Limits(max_wait_s=args.max_wait_s, max_queued_jobs=args.max_queued_jobs),
            public_url=args.public_url,
        ),
    )
    return application
