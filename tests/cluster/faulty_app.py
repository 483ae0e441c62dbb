# No `from __future__ import annotations` here: Serve reads the annotation of `build` as a class.
"""The application with engines that sleep and a store that fails on demand, for `serve deploy`."""

from ray.serve import Application

from serve_app.builder import Parts, compose
from serve_app.settings import AppArgs
from serve_app.stores import Stores
from tests.fakes import FaultyStores, SleepingHost

__all__ = ["build"]


def build(args: AppArgs) -> Application:
    """Small pictures, and a driver that gives a store up sooner."""
    driver = {"pictures": (2, 64), "patience_s": 20.0}
    return compose(args, Parts(SleepingHost, faulty_stores, driver))


def faulty_stores(args: AppArgs) -> Stores:
    """The store that the arguments name; with faults, unless it is a project, which has its own."""
    if args.supabase_url:
        return args.stores()
    return FaultyStores(data_dir=args.asset_dir.resolve(), database_url=args.database_url)
