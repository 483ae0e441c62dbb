"""The application's arguments for the machine it runs on, from the environment and its GPUs.

It is what `glimpse3d serve` starts with; a cluster says the same in `serve_config.yaml`.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.engines.by_views import NO_GENERATOR
from pipeline.engines.engine_spec import EngineSpec
from pipeline.engines.registry import spec_of
from pipeline.errors import Unavailable
from pipeline.options import DeviceName
from pipeline.ports import PortName
from serve_app.cli.plan import make_plan
from serve_app.settings import AppArgs, Environment

#: Longest wait for the driver's answer, seconds; it loads kernel modules the first time.
_ASK_LIMIT_S = 30


@dataclass(frozen=True)
class Gpus:
    """How many, and the memory of the smallest, GiB."""

    count: int
    memory_gib: float


def find_gpus() -> Gpus | None:
    """What the NVIDIA driver reports, None where there is none.

    Not through torch, which would take memory on the cards for this process.

    Raises:
        Unavailable: there is a driver, and it does not work.
    """
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        asked = subprocess.run(
            query, capture_output=True, text=True, check=False, timeout=_ASK_LIMIT_S
        )
    except FileNotFoundError:
        return None
    except subprocess.TimeoutExpired as error:
        raise Unavailable("nvidia-smi does not answer.") from error
    if asked.returncode != 0:
        raise Unavailable(f"nvidia-smi failed: {(asked.stdout + asked.stderr).strip()}")
    mebibytes = [float(line) for line in asked.stdout.split("\n") if line.strip()]
    return Gpus(len(mebibytes), min(mebibytes) / 1024) if mebibytes else None


def _wants_a_gpu(spec: EngineSpec) -> bool:
    return spec.on_device and "embedded" not in spec.presets


def _with_engine(engines: Mapping[PortName, str]) -> list[PortName]:
    return [port for port in PortName if engines[port] != NO_GENERATOR]


def app_args(env: Environment) -> AppArgs:
    """The arguments for this machine.

    Where one of the engines wants a GPU, each gets a process of its own, as in
    `serve_config.yaml`, and the shares of the GPUs that `make_plan` finds.

    Raises:
        Unavailable: a GPU is asked for and there is none.
        InvalidOption: the engines do not fit on the GPUs; the text says what would.
    """
    # A name that both have means the same; an empty value leaves the default.
    shared = Environment.model_fields.keys() & AppArgs.model_fields.keys()
    given = {name: value for name in shared if (value := getattr(env, name)) not in ("", None)}
    engines = env.engine_names()
    common = {**given, "engines": engines, "supabase_key": env.supabase_service_role_key or None}
    if not any(_wants_a_gpu(spec_of(port, name)) for port, name in engines.items()):
        return AppArgs.model_validate(common)
    gpus = None if env.device == DeviceName.CPU else find_gpus()
    if gpus is None and env.device == DeviceName.CUDA:
        raise Unavailable("DEVICE is cuda, and nvidia-smi finds no GPU here.")
    plan = None if gpus is None else make_plan(gpus.count, gpus.memory_gib, engines=engines)
    return AppArgs.model_validate(
        common
        | {
            "hosts": {port.value.title(): [port] for port in _with_engine(engines)},
            "gpu_shares": {} if plan is None else plan.shares(),
        }
    )
