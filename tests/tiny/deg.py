"""A DeG engine of the golden configuration: tiny networks with weights by the golden rule."""

from __future__ import annotations

from dataclasses import replace

import torch

from pipeline.device import Device, Precision
from pipeline.engines.assign_weights import assign_weights
from pipeline.engines.deg.deg_decoder import DecoderNetworks
from pipeline.engines.deg.deg_encoders import PhotoEncoders, empty_encoders
from pipeline.engines.deg.deg_engine import DegEngine
from pipeline.engines.deg.deg_presets import DEG_PRESETS
from pipeline.engines.deg.flow_network import FlowNetwork
from tests.pipeline.engines.deg.golden_files import golden_config, tiny_weights
from tests.pipeline.engines.deg.tiny_decoders import build_gaussians, build_octree

__all__ = ["tiny_deg"]

_CPU = torch.device("cpu")


def tiny_deg(preset: str = "triposplat", least_gaussians: int = 64) -> DegEngine:
    """On the CPU in fp32. It makes fewer splats than the real one, so that tests are quick."""
    config = golden_config()
    flow = FlowNetwork(config.flow)
    flow.load_state_dict(tiny_weights("flow"), strict=True)
    empty = empty_encoders(config)
    encoders = PhotoEncoders(
        assign_weights(empty.dino, tiny_weights("dinov3"), _CPU),
        assign_weights(empty.vae, tiny_weights("vae_encoder"), _CPU),
    )
    return DegEngine(
        replace(DEG_PRESETS[preset], least_gaussians=least_gaussians),
        config,
        encoders,
        flow.requires_grad_(False).eval(),
        DecoderNetworks(build_octree(), build_gaussians()),
        Device(_CPU, Precision.FP32),
    )
