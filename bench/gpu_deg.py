"""The DeG engines at full size with random weights, in stages, each of which is told as it ends.

One prepared script for a machine that is at hand for some minutes: it needs no weights, no network
and no Ray, begins nothing that it cannot finish within its limit, and what it has found is on the
terminal and in the file before the next stage begins. A photo's own camera is not looked for, which
is drawing. It does not know what the numbers are wanted for; the goals beside them are those of a
card of the class of an H100 or H200.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch.nn.attention import SDPBackend

from bench.gpu_clock import median_seconds, seconds_of
from bench.table import Row
from pipeline.device import Device, Precision
from pipeline.engines.deg.deg_canvas import prepare_photo
from pipeline.engines.deg.deg_config import DegConfig
from pipeline.engines.deg.deg_decoder import DecoderNetworks, decode_splats
from pipeline.engines.deg.deg_encoders import PhotoEncoders, encode_photo, vae_noise
from pipeline.engines.deg.deg_precision import DegPart
from pipeline.engines.deg.flow_network import FlowNetwork, PhotoFeatures
from pipeline.engines.deg.flow_sampler import FlowNoise, FlowSource, sample
from pipeline.engines.deg.flow_settings import SamplerSettings
from pipeline.engines.deg.fused_attention import (
    FUSED,
    Attention,
    AttentionKernel,
    choose_kernel,
    use_kernel,
)
from pipeline.engines.deg.octree_sampling import SeededDraws
from pipeline.engines.registry import spec_of
from pipeline.errors import GlimpseError
from pipeline.ports import PortName
from pipeline.types import UInt8Array
from tests.random_deg import random_network, random_turbo

T = TypeVar("T")

#: Goals: seconds of one call of the flow network, and of a photo to 262,144 splats; GiB.
CALL_GOAL_S, TRIPOSPLAT_GOAL_S, TURBO_GOAL_S, MEMORY_GOAL_GIB = 0.10, 4.0, 0.8, 10e9 / 2**30
#: Counted at full size: operations of one call, two for each multiplication with its addition.
CALL_TFLOP = 23.77
#: Of the limit, for what comes after the last stage that is begun.
_SPARE_S = 10.0


@dataclass(frozen=True)
class DegSize:
    """How large the run is.

    Attributes:
        splats: of the whole passes; `dense` and `preview`, a live model, are decoded besides.
        tiny: the numbers mean nothing.
    """

    config: DegConfig = field(default_factory=DegConfig.released)
    splats: int = 262_144
    dense: int = 1_048_576
    preview: int = 2_048
    steps: tuple[int, int, int] = (20, 5, 50)
    tiny: bool = False

    @classmethod
    def small(cls) -> DegSize:
        """Networks that a CPU runs in a second."""
        small = DegConfig()
        flow = replace(
            small.flow,
            latent_tokens=32,
            width=64,
            feature1_channels=32,
            feature2_channels=16,
            refiner_blocks=1,
            blocks=2,
            heads=4,
        )
        config = DegConfig(
            canvas=64,
            dino=replace(small.dino, width=32, heads=2, layers=2, mlp_width=64),
            vae=replace(small.vae, channels=(32, 32, 32, 32), latent_channels=4),
            flow=flow,
            octree=replace(small.octree, width=48, blocks=1, heads=2),
            gaussians=replace(small.gaussians, width=48, blocks=1, heads=2, gaussians_per_point=8),
        )
        return cls(config, 320, 640, 64, (3, 2, 4), tiny=True)


@dataclass
class DegFound:
    """What was found so far.

    Attributes:
        kernels: by precision, which attention kernel the networks use.
        stages: seconds by stage, for `glimpse3d plan`.
        left_out: sentences on what was not measured.
    """

    rows: list[Row] = field(default_factory=list)
    kernels: dict[str, str] = field(default_factory=dict)
    stages: dict[str, float] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


class _Script:
    """Stages in order, within a limit; what they find is told at once."""

    def __init__(self, device: Device, size: DegSize, limit_s: float, path: Path | None) -> None:
        self.device, self.size, self._path = device, size, path
        self.found = DegFound()
        self._end = time.monotonic() + limit_s - (0 if size.tiny else _SPARE_S)

    def stage(self, name: str, work: Callable[[], T], needs_s: float = 0.0) -> T | None:
        """What `work` answers; None where it was not begun, or went wrong, which is told."""
        answer = None
        if time.monotonic() + needs_s >= self._end:
            self._leave_out(f"{name}: it would take some {needs_s:.0f} s, and the limit is near.")
        else:
            print(f"-- {name}", flush=True)
            try:
                answer = work()
            except (GlimpseError, RuntimeError, ImportError) as error:
                self._leave_out(f"{name}: {str(error).splitlines()[0]}")
        self.device.forget()
        self._write()
        return answer

    def _leave_out(self, sentence: str) -> None:
        self.found.left_out.append(sentence)
        print(f"   left out: {sentence}", flush=True)

    def tell(self, row: Row) -> None:
        """A number that was found."""
        if self.size.tiny:
            row = replace(row, budget=None)
        self.found.rows.append(row)
        goal = "" if row.budget is None else f"   (goal {row.budget:.3g}: {row.verdict})"
        print(f"   {row.name}: {row.value:.4g} {row.unit}{goal}", flush=True)

    @contextmanager
    def peak(
        self, name: str, goal: float | None = None, planned: float | None = None
    ) -> Iterator[None]:
        """Tells the most memory that tensors held inside of the block, weights and all, against
        the goal and against what `glimpse3d plan` reckons with."""
        where = self.device.torch_device
        self.device.forget()
        if self.device.is_cuda:
            torch.cuda.reset_peak_memory_stats(where)
        yield
        if self.device.is_cuda:
            gib = torch.cuda.max_memory_allocated(where) / 2**30
            self.tell(Row(f"{name}: peak memory of tensors", gib, "GiB", goal))
            if planned is not None:
                self.tell(Row(f"{name}: the same, against the plan", gib, "GiB", planned))

    def _write(self) -> None:
        if self._path is None:
            return
        report = {
            "device": self.device.description,
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "platform": platform.platform(),
            "tiny": self.size.tiny,
            "kernels": self.found.kernels,
            "left_out": self.found.left_out,
            "rows": [asdict(row) | {"verdict": row.verdict} for row in self.found.rows],
            "stages": {"device": self.device.description, **self.found.stages},
        }
        self._path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def measure(device: Device, size: DegSize, *, limit_s: float, path: Path | None = None) -> DegFound:
    """Every stage that fits within the limit."""
    script = _Script(device, size, limit_s, path)
    wanted = device.precision
    halves = [Precision.FP16, Precision.BF16] if device.is_cuda else [wanted]
    # The one that the whole passes use comes last and stays.
    order = sorted({*halves, wanted}, key=lambda precision: (precision is wanted, precision))
    measured: tuple[FlowNetwork, float] | None = None
    with torch.inference_mode():
        for precision in order:
            measured = None  # one network at a time
            measured = script.stage(f"flow network, {precision}", partial(_flow, script, precision))
        decoders = script.stage("decoders", partial(_decoders, script))
        encoders = script.stage("encoders", partial(_encoders, script))
        if measured and decoders and encoders:
            _passes(script, encoders, decoders, *measured)
    return script.found


def _network(script: _Script, part: DegPart, precision: Precision) -> Any:
    """A random network with the kernel that the product would choose."""
    config, where = script.size.config, script.device.torch_device
    network = random_network(part, config, where, precision.dtype)
    if part not in (DegPart.DINO, DegPart.VAE):
        use_kernel(network, choose_kernel(where, precision.dtype, config.flow.head_width))
    return network


def _kernels(script: _Script, precision: Precision) -> None:
    """Which attention kernel is chosen, and how fast each is on the tokens of one call."""
    device, flow = script.device, script.size.config.flow
    chosen = choose_kernel(device.torch_device, precision.dtype, flow.head_width)
    script.found.kernels[precision] = chosen.name
    print(f"   attention in {precision}: {chosen.name}", flush=True)
    tokens = flow.latent_tokens + script.size.config.photo_tokens + 1
    shape = (1, tokens, flow.heads, flow.head_width)
    q, k, v = (
        torch.randn(shape, device=device.torch_device, dtype=precision.dtype) for _ in range(3)
    )
    among: tuple[SDPBackend | None, ...] = FUSED if device.is_cuda else (None,)
    for backend in among:
        attention = Attention()
        attention.kernel = AttentionKernel(backend)
        name = f"one attention of {tokens:,} tokens, {attention.kernel.name}, {precision}"
        try:
            seconds = median_seconds(lambda: attention(q, k, v), device)  # noqa: B023
        except RuntimeError:
            script.found.left_out.append(f"{name}: the kernel does not take it.")
            continue
        script.tell(Row(name, 1000 * seconds, "ms"))


def _flow(script: _Script, precision: Precision) -> tuple[FlowNetwork, float]:
    """A network and seconds of a call of it; and what is saved by what is computed once."""
    _kernels(script, precision)
    network: FlowNetwork = _network(script, DegPart.FLOW, precision)
    device, config = script.device, script.size.config
    features = _features(config, device)
    nothing = PhotoFeatures(
        torch.zeros_like(features.feature1), torch.zeros_like(features.feature2)
    )
    noise = FlowNoise.of_seed(config.flow, 0)
    latent = noise.latent.to(device.torch_device)
    camera = noise.cameras[:1].to(device.torch_device)
    (moment,) = network.moments(torch.tensor([0.7]))
    context = network.photo_context(features)
    empty = network.empty_context(config.photo_tokens)

    def call(context: Any) -> Callable[[], Any]:
        return lambda: network(latent, camera, moment, context)

    def plain() -> None:
        for given in (features, nothing):
            network(latent, camera, moment, network.photo_context(given))

    with script.peak(f"flow network, {precision}"):
        call_s = median_seconds(call(context), device)
    goal = CALL_GOAL_S
    rows = [Row(f"flow network, {precision}: one call", call_s, "s", goal)]
    if not script.size.tiny:
        rows.append(Row(f"flow network, {precision}: its rate", CALL_TFLOP / call_s, "TFLOP/s"))
    once = median_seconds(call(empty), device)
    guided, unsaved = call_s + once, median_seconds(plain, device)
    rows += [
        Row(f"flow network, {precision}: without a photo, as one token", once, "s"),
        Row(
            f"flow network, {precision}: a photo's context, once a photo",
            median_seconds(lambda: network.photo_context(features), device),
            "s",
        ),
        Row(f"flow network, {precision}: a guided step", guided, "s"),
        Row(f"flow network, {precision}: a guided step in its plain form", unsaved, "s"),
        Row(f"flow network, {precision}: saved against the plain form", guided / unsaved, "x"),
    ]
    for row in rows:
        script.tell(row)
    return network, call_s


def _features(config: DegConfig, device: Device) -> PhotoFeatures:
    generator = torch.Generator().manual_seed(3)

    def drawn(channels: int) -> torch.Tensor:
        numbers = torch.randn(1, config.photo_tokens, channels, generator=generator)
        return numbers.to(device.torch_device)

    return PhotoFeatures(drawn(config.flow.feature1_channels), drawn(config.flow.feature2_channels))


def _encoders(script: _Script) -> PhotoEncoders:
    """Both, and seconds of a photo through them."""
    config, device = script.size.config, script.device
    encoders = PhotoEncoders(
        _network(script, DegPart.DINO, device.precision),
        _network(script, DegPart.VAE, device.precision),
    )
    prepared = prepare_photo(*_photo(config), config.canvas)
    noise = vae_noise(config, 0)
    with script.peak("encoders"):
        seconds = median_seconds(lambda: encode_photo(encoders, prepared, noise), device)
    script.tell(Row("encoders: a photo", seconds, "s"))
    return encoders


def _photo(config: DegConfig) -> tuple[UInt8Array, UInt8Array]:
    """An ellipse on grey, at the size of the canvas, and its alpha."""
    side = config.canvas
    y, x = np.mgrid[:side, :side] / side - 0.5
    alpha = np.where((x / 0.3) ** 2 + (y / 0.4) ** 2 < 1, 255, 0).astype(np.uint8)
    rgb = np.full((side, side, 3), 128, np.uint8)
    rgb[alpha > 0] = (180, 90, 40)
    return rgb, alpha


def _decoders(script: _Script) -> DecoderNetworks:
    """Both, and seconds of decoding a latent to few and to many splats."""
    size, device = script.size, script.device
    decoders = DecoderNetworks(
        _network(script, DegPart.OCTREE, device.precision),
        _network(script, DegPart.GAUSSIANS, device.precision),
    )
    latent = FlowNoise.of_seed(size.config.flow, 0).latent
    for splats in (size.preview, size.splats, size.dense):

        def decoded(splats: int = splats) -> None:
            decode_splats(decoders, latent, num_gaussians=splats, draws=SeededDraws(0))

        with script.peak(f"decoders, {splats:,} splats"):
            seconds = median_seconds(decoded, device)
        script.tell(Row(f"decoders: {splats:,} splats", seconds, "s"))
    return decoders


def _passes(
    script: _Script,
    encoders: PhotoEncoders,
    decoders: DecoderNetworks,
    flow: FlowNetwork,
    call_s: float,
) -> None:
    """A photo to splats: TripoSplat's steps, Idol Turbo's, Idol's."""
    size, device = script.size, script.device
    rgb, alpha = _photo(size.config)
    noise, draws = FlowNoise.of_seed(size.config.flow, 0), SeededDraws(0)

    def whole(source: FlowSource, settings: SamplerSettings) -> None:
        prepared = prepare_photo(rgb, alpha, size.config.canvas)
        features = encode_photo(encoders, prepared, vae_noise(size.config, 0))
        state = sample(source, (features,), settings, noise)
        decode_splats(decoders, state.latent, num_gaussians=size.splats, draws=draws)

    def measured(engine: str, title: str, settings: SamplerSettings, goal: float | None) -> None:
        source: FlowSource = flow if settings.guided else random_turbo(flow)
        demand = spec_of(PortName.GENERATOR, engine).demand
        assert demand is not None, engine
        with script.peak(title, MEMORY_GOAL_GIB, demand.weights + demand.working):
            seconds = min(seconds_of(lambda: whole(source, settings), device) for _ in range(2))
        script.tell(Row(title, seconds, "s", goal))
        script.found.stages.setdefault("generate", seconds)

    many, few, most = size.steps
    for engine, name, settings, goal in (
        ("triposplat", "TripoSplat", SamplerSettings(many), TRIPOSPLAT_GOAL_S),
        ("idol-turbo", "Idol Turbo", SamplerSettings(few, guidance_scale=0.0), TURBO_GOAL_S),
        ("idol", "Idol", SamplerSettings(most), None),
    ):
        calls = settings.steps * (2 if settings.guided else 1)
        kind = "guided steps" if settings.guided else "steps"
        title = f"{name}: photo to {size.splats:,} splats, {settings.steps} {kind}"
        needs_s = 0.0 if size.tiny else 2 * (calls * call_s + 2)
        script.stage(title, partial(measured, engine, title, settings, goal), needs_s)
