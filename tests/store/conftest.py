"""Makes the store fixtures known in this folder."""

from .fixtures import (  # noqa: F401
    embedded_dir,
    fresh_dsn,
    postgres_dsn,
    postgres_server,
    store,
    store_settings,
)
