"""Settings: from the environment for the command line, from YAML for the application builder.

It knows names and defaults; nothing is started here. No other module reads the environment.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from deployments.jobs.outbox import WebhookRules
from pipeline.engines.by_views import NO_GENERATOR
from pipeline.engines.registry import PRESETS, EngineChoice, engine_names
from pipeline.errors import InvalidOption
from pipeline.options import DeviceName
from pipeline.ports import PortName
from serve_app.http.reach import Reach
from serve_app.stores import Stores, StoreSettings, SupabaseSettings


class Environment(BaseSettings):
    """Environment variables (and `.env`). Field names are the variables' names."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,  # it may be a key
    )

    #: Address to listen on; 0.0.0.0 opens the service to the network.
    api_host: str = "127.0.0.1"
    #: Port to listen on.
    api_port: int = Field(default=8000, ge=0, le=65535)
    #: A Supabase project, https://{ref}.supabase.co, for rows and files; empty: PostgreSQL and a
    #: directory.
    supabase_url: str = ""
    #: Its secret key (sb_secret_...), or the service role's JWT of older projects. Also read where
    #: a cluster builds the application, so that it need not stand in a YAML file.
    supabase_service_role_key: str = Field(default="", repr=False)
    #: Its publishable key, or the anonymous JWT. The service does not need it; `glimpse3d doctor`
    #: checks with it that nobody else can read or write.
    supabase_anon_key: str = Field(default="", repr=False)
    #: Any PostgreSQL >= 15; empty: the service starts its own server.
    database_url: str = Field(default="", repr=False)
    #: Where the embedded database and the files live.
    asset_dir: Path = Path("data")
    #: Where weights lie that no installed package carries.
    model_dir: Path | None = None
    #: "embedded" needs no GPU and fetches nothing, "gpu" is SyncDreamer, MiDaS, gsplat and SDXL; or
    #: the name of a generator, which makes the first model in one pass.
    engines: str = "embedded"
    #: Makes the views in place of the one of `engines`: "prior", "relief" or "syncdreamer";
    #: empty: that one.
    views_engine: str = ""
    #: Of the engines that can use a GPU: "auto", "cuda" or "cpu".
    device: DeviceName = DeviceName.AUTO
    #: Number format of their networks; empty: bf16 on a GPU, else fp32.
    precision: Literal["", "fp32", "fp16", "bf16"] = ""
    #: Options of the GPU engines by port, as JSON: {"enhancer": {"grid": false}}.
    engine_options: dict[PortName, dict[str, Any]] = Field(default_factory=dict)
    #: Address clients see, for URLs in answers, with a path where a proxy puts the service below
    #: one; empty: taken from each request.
    public_url: str = ""
    #: Further names by which clients call the service, comma-separated: "a.example, *.b.example".
    #: Numeric addresses, localhost and PUBLIC_URL need not be named; "*" are all names.
    allowed_hosts: str = ""
    #: Proxies whose X-Forwarded-Proto, -Host, -Prefix and -For are believed: addresses or
    #: networks, comma-separated.
    trusted_proxies: str = ""
    #: Signs webhooks, "whsec_" and base64; empty: nobody can ask for one. Also read by replicas
    #: of a cluster, so that it need not stand in a YAML file.
    webhook_secret: str = Field(default="", repr=False)
    #: Projects are deleted so many seconds after their last job; empty: never.
    project_ttl_s: float | None = Field(default=None, gt=0)
    #: Events, messages and idempotency keys of jobs go so many seconds after their end; a week.
    history_ttl_s: float = Field(default=604800, gt=0, le=1e9)
    #: More log lines.
    debug: bool = False

    @field_validator("engines")
    @classmethod
    def _set_exists(cls, name: str) -> str:
        if name not in PRESETS:
            raise ValueError(f"there are the sets {[*PRESETS]}, not {name}")
        return name

    @field_validator("views_engine")
    @classmethod
    def _view_engine_exists(cls, name: str) -> str:
        if name and name not in (known := engine_names(PortName.VIEWS)):
            raise ValueError(f"there are the view engines {list(known)}, not {name}")
        return name

    def engine_names(self) -> dict[PortName, str]:
        """The engine of every port."""
        named = PRESETS[self.engines]
        return named | ({PortName.VIEWS: self.views_engine} if self.views_engine else {})

    def engine_choice(self) -> EngineChoice:
        """The engines of one process."""
        named: dict[str, Any] = {port.value: name for port, name in self.engine_names().items()}
        return EngineChoice(
            model_dir=self.model_dir,
            device=self.device,
            precision=self.precision or None,
            options=self.engine_options,
            **named,
        )


class AppArgs(BaseModel):
    """Arguments of `serve_app.builder:build`: the `args:` of an application in YAML.

    Code defaults are the embedded engines on one machine; `serve_config.yaml` is a GPU cluster.
    What is true of the machine (GPUs, replicas, queues) stands in the `deployments:` of the YAML.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    #: Where the embedded database and the files live.
    asset_dir: Path = Path("data")
    #: Any PostgreSQL >= 15; None: the service starts its own server below `asset_dir`.
    database_url: str | None = Field(default=None, repr=False)
    #: A Supabase project, https://{ref}.supabase.co, in place of PostgreSQL and a directory.
    supabase_url: str | None = None
    #: Its secret key; None: SUPABASE_SERVICE_ROLE_KEY of the environment.
    supabase_key: str | None = Field(default=None, repr=False)
    #: Where weights lie that no installed package carries.
    model_dir: Path | None = None
    #: Engine of each port, where a missing one keeps the embedded default; or the name of a whole
    #: set: "embedded" or "gpu".
    engines: dict[PortName, str] = Field(default_factory=dict)
    #: Of the engines that can use a GPU: "auto", "cuda" or "cpu".
    device: DeviceName = DeviceName.AUTO
    #: Number format of their networks; None is bf16 on a GPU, else fp32.
    precision: Literal["fp32", "fp16", "bf16"] | None = None
    #: Options of the engines by port (`pipeline.engines.registry.EngineChoice.options`).
    engine_options: dict[PortName, dict[str, Any]] = Field(default_factory=dict)
    #: Share of a GPU by host, 1 for a whole one; a missing host uses none. In YAML the same is
    #: said by `num_gpus` in a deployment's `ray_actor_options`.
    gpu_shares: dict[str, Annotated[float, Field(gt=0, le=1)]] = Field(default_factory=dict)
    #: Model deployments by name, and the ports each hosts. Few processes on a small machine, one
    #: per model on a cluster. Every port appears exactly once, the generator only where there is
    #: one. Background removal has one of its own: a client waits for its upload, and a round of the
    #: enhancer takes many seconds.
    hosts: dict[str, tuple[PortName, ...]] = Field(
        default_factory=lambda: {
            "Background": (PortName.BACKGROUND,),
            "Vision": (PortName.VIEWS, PortName.DEPTH, PortName.ENHANCER),
            "Splats": (PortName.SPLATS, PortName.EXPORTER),
        }
    )
    #: CPU threads of one model replica; None takes every CPU the process may use.
    threads: int | None = Field(default=None, ge=1)
    #: Longest a request waits for its job before it is answered with 202, seconds.
    max_wait_s: float = Field(default=600.0, gt=0)
    #: Jobs under way at once over all drivers.
    max_running_jobs: int = Field(default=4, ge=1)
    #: Queued jobs above which new ones are refused with 503.
    max_queued_jobs: int = Field(default=100, ge=1)
    #: Requests that wait for a job, in one ingress, above which no further one waits: a call is
    #: answered with 202, a `?wait` with 503.
    max_waiting: int = Field(default=160, ge=1)
    #: Streams of events in one ingress above which further ones are refused with 503.
    max_streams: int = Field(default=160, ge=1)
    #: Photos in one ingress, from their first byte until they are kept, above which further ones
    #: are refused with 503.
    max_uploads: int = Field(default=32, ge=1)
    #: Files on their way from one ingress to clients, above which further ones are refused with
    #: 503, and bytes of them: what a slow client has not taken lies in the memory of a proxy.
    max_downloads: int = Field(default=64, ge=1)
    max_download_bytes: int = Field(default=256 * 1024 * 1024, ge=1)
    #: Share of each of these that one client may have, told apart as by `client_header`.
    client_share: float = Field(default=0.5, gt=0, le=1)
    #: A job whose driver is silent for so long is claimed by another, seconds.
    lease_s: float = Field(default=15.0, ge=1)
    #: Address clients see, for URLs in answers, with a path where a proxy puts the service below
    #: one; None: taken from each request.
    public_url: str | None = None
    #: Further names by which clients call the service: "a.example", "*.b.example", or "*" for all.
    allowed_hosts: tuple[str, ...] = ()
    #: Addresses or networks of proxies whose `X-Forwarded-` headers are believed.
    trusted_proxies: tuple[str, ...] = ()
    #: Longest that an event stream is kept open before its client has to connect again, seconds;
    #: less than Serve's `request_timeout_s` where that is set.
    max_stream_s: float = Field(default=300.0, gt=0)
    #: Longest that one call of an engine may run, without its time in the queue, seconds. An
    #: engine that does not stop then is taken for hung, and its process is replaced.
    call_limit_s: float = Field(default=3600.0, gt=0)
    #: Header in which a proxy in front names the client, for turns between clients; None: the
    #: address that the request comes from.
    client_header: str | None = None
    #: Projects are deleted so many seconds after their last job; None: never.
    project_ttl_s: float | None = Field(default=None, gt=0)
    #: Events, messages and idempotency keys of jobs go so many seconds after their end; a week.
    history_ttl_s: float = Field(default=604800, gt=0, le=1e9)
    #: Signs webhooks, "whsec_" and base64; None: WEBHOOK_SECRET of the environment, and without
    #: that nobody can ask for one.
    webhook_secret: str | None = Field(default=None, repr=False)
    #: Private networks that webhooks may reach, such as "10.1.0.0/16".
    webhook_networks: tuple[str, ...] = ()

    @field_validator("allowed_hosts", "trusted_proxies", mode="before")
    @classmethod
    def _listed(cls, names: object) -> object:
        if isinstance(names, str):
            return tuple(name.strip() for name in names.split(",") if name.strip())
        return names

    @field_validator("engines", mode="before")
    @classmethod
    def _whole_set(cls, engines: object) -> object:
        if isinstance(engines, str) and engines not in PRESETS:
            raise ValueError(f"there are the sets {[*PRESETS]}, not {engines}")
        return PRESETS[engines] if isinstance(engines, str) else engines

    @field_validator("engines")
    @classmethod
    def _engines_exist(cls, engines: dict[PortName, str]) -> dict[PortName, str]:
        for port, name in engines.items():
            if name not in (known := engine_names(port)):
                raise ValueError(f"{port.value} has the engines {list(known)}, not {name}")
        return engines

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> AppArgs:
        hosted = sorted(port for ports in self.model_hosts.values() for port in ports)
        wanted = [
            port
            for port in PortName
            if port is not PortName.GENERATOR or self.has_generator or port in hosted
        ]
        if hosted != sorted(wanted):
            raise ValueError(f"hosts must name each of {sorted(wanted)} once, got {hosted}")
        try:
            _ = self.reach()
        except InvalidOption as error:
            raise ValueError(error.detail) from error
        unknown = sorted(set(self.gpu_shares) - set(self.model_hosts))
        if unknown:
            raise ValueError(
                f"gpu_shares names {unknown[0]!r}; the hosts are {sorted(self.model_hosts)}"
            )
        if self.supabase_url and self.database_url:
            raise ValueError(
                "supabase_url and database_url (SUPABASE_URL and DATABASE_URL) exclude each other"
            )
        return self

    @property
    def has_generator(self) -> bool:
        """A model can be made in one pass."""
        return self.engines.get(PortName.GENERATOR, NO_GENERATOR) != NO_GENERATOR

    @property
    def model_hosts(self) -> dict[str, tuple[PortName, ...]]:
        """`hosts`; where these are the default ones a generator has one of its own beside them."""
        if "hosts" in self.model_fields_set or not self.has_generator:
            return self.hosts
        return {**self.hosts, "Generator": (PortName.GENERATOR,)}

    def stores(self) -> Stores:
        """Where rows and files are kept; not prepared yet."""
        if not self.supabase_url:
            return StoreSettings(
                data_dir=self.asset_dir.resolve(), database_url=self.database_url or None
            )
        key = self.supabase_key or Environment().supabase_service_role_key
        return SupabaseSettings(self.supabase_url, key)

    def reach(self) -> Reach:
        """How clients come to the service."""
        return Reach(self.public_url or None, self.allowed_hosts, self.trusted_proxies)

    def webhook_rules(self) -> WebhookRules | None:
        """How webhooks are signed and where they may go; None without a secret."""
        secret = self.webhook_secret or Environment().webhook_secret
        return WebhookRules(secret, self.webhook_networks) if secret else None

    def engine_choice(self) -> EngineChoice:
        """The engines as the pipeline wants them."""
        chosen: dict[str, Any] = {port.value: name for port, name in self.engines.items()}
        return EngineChoice(
            model_dir=self.model_dir,
            threads=self.threads,
            device=self.device,
            precision=self.precision,
            options=self.engine_options,
            **chosen,
        )
