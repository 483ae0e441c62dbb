"""Tiny depth networks in the folder layout of transformers: random features, a fitted last layer.

They know nothing of depth, only that objects are nearest in the middle of a picture; colours
disturb it a little. That is true enough of what is round for the alignment to keep views of the
DPT; those of the coarser Depth Anything are mostly discarded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

#: Side of the networks' input, and how many pictures the last layer is fitted to.
SIDES = {"dpt": 64, "depth-anything": 56}
_PICTURES = 12
#: What the colours count for beside the place.
_COLOURS = 0.03


def write_tiny_depth(folder: Path, kind: str = "dpt", seed: int = 0) -> None:
    """Write config.json, model.safetensors and preprocessor_config.json; about a second.

    Args:
        folder: made where it is absent.
        kind: "dpt" or "depth-anything".
        seed: of the weights and of the pictures.
    """
    from transformers import DPTImageProcessorPil

    side = SIDES[kind]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = _dpt(side) if kind == "dpt" else _depth_anything(side)
        embeddings = network.dpt.embeddings if kind == "dpt" else network.backbone.embeddings
        _tell_place(embeddings)
        _smooth(network)
    network.eval()
    last = network.head.head[4] if kind == "dpt" else network.head.conv3
    _fit_last_layer(network, last, _pictures(side, seed), _nearness(side))
    network.save_pretrained(folder)
    DPTImageProcessorPil(
        size={"height": side, "width": side},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        keep_aspect_ratio=True,
        ensure_multiple_of=16 if kind == "dpt" else 14,
    ).save_pretrained(folder)


def _dpt(side: int) -> Any:
    from transformers import DPTConfig, DPTForDepthEstimation

    return DPTForDepthEstimation(
        DPTConfig(
            hidden_size=32,
            num_hidden_layers=4,
            num_attention_heads=2,
            intermediate_size=64,
            image_size=side,
            patch_size=16,
            backbone_out_indices=[0, 1, 2, 3],
            neck_hidden_sizes=[8, 16, 24, 32],
            fusion_hidden_size=32,
            reassemble_factors=[4, 2, 1, 0.5],
            initializer_range=0.1,
        )
    )


def _depth_anything(side: int) -> Any:
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    backbone = Dinov2Config(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=side,
        patch_size=14,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        reshape_hidden_states=False,
        apply_layernorm=True,
        initializer_range=0.1,
    )
    return DepthAnythingForDepthEstimation(
        DepthAnythingConfig(
            backbone_config=backbone,
            patch_size=14,
            reassemble_hidden_size=32,
            neck_hidden_sizes=[8, 16, 24, 32],
            fusion_hidden_size=32,
            head_hidden_size=32,
        )
    )


@torch.no_grad()
def _tell_place(embeddings: Any) -> None:
    """Position embeddings that say x, y and the distance from the middle; faint colours."""
    embeddings.patch_embeddings.projection.weight.mul_(_COLOURS)
    table = embeddings.position_embeddings  # [1, 1 + patches, width]
    side = round((table.shape[1] - 1) ** 0.5)
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, side)] * 2, indexing="ij")
    place = torch.stack([x, y, x * x + y * y, torch.ones_like(x)], -1).reshape(-1, 4)
    table[0, 1:] = place @ torch.randn(4, table.shape[2])


@torch.no_grad()
def _smooth(network: Any) -> None:
    """Patches enlarge without a pattern of their own, which random weights would repeat in each."""
    for layer in network.modules():
        if isinstance(layer, torch.nn.ConvTranspose2d):
            layer.weight.copy_(layer.weight.mean((2, 3), keepdim=True).expand_as(layer.weight))


def _pictures(side: int, seed: int) -> Tensor:
    """Random soft colours, [N, 3, side, side] in -1..1."""
    coarse = torch.rand(_PICTURES, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    return 2 * functional.interpolate(coarse, (side, side), mode="bilinear") - 1


def _nearness(side: int) -> Tensor:
    """10 in the middle of [side, side], 5 in the middles of the edges, falling like a parabola."""
    at = (torch.arange(side) + 0.5) / side * 2 - 1
    return 10 - 5 * (at[:, None] ** 2 + at**2)


@torch.no_grad()
def _fit_last_layer(network: Any, last: Any, pictures: Tensor, nearness: Tensor) -> None:
    """Ridge regression of the last 1 x 1 convolution on what reaches it."""
    seen: list[Tensor] = []
    hook = last.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    network(pixel_values=pictures)
    hook.remove()
    features = seen[0].permute(0, 2, 3, 1).double()
    A = torch.cat([features, torch.ones_like(features[..., :1])], -1).reshape(
        -1, features.shape[-1] + 1
    )
    scale = A.square().mean(0).sqrt().clamp(min=1e-9)
    A = A / scale
    target = nearness.double().expand(len(pictures), *nearness.shape)
    normal = A.T @ A + 1e-5 * len(A) * torch.eye(A.shape[1], dtype=torch.double)
    solution = torch.linalg.solve(normal, A.T @ target.reshape(-1)) / scale
    last.weight.copy_(solution[:-1].view_as(last.weight))
    last.bias.copy_(solution[-1:])
