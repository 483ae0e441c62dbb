"""Where each of our parameters lies in the released checkpoint, by name.

It knows the two naming schemes and reads no file. The checkpoint's layout: (c) 2023 Yuan Liu, MIT;
inside it, Stable Diffusion's UNet and autoencoder and OpenAI's CLIP keep their own names.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from torch import Size, Tensor

_UNET = "model.diffusion_model."
_VAE = "first_stage_model."
_CLIP = "clip_image_encoder.model."
_VISUAL = f"{_CLIP}visual."

#: Schedule buffers: recomputed here, checked against the formula where we know it.
SCHEDULE = (
    "betas",
    "alphas",
    "alphas_cumprod",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "posterior_variance",
    "posterior_log_variance_clipped",
)

#: Left-overs of CLIP's text side, which nothing reads; may be absent.
IGNORED = tuple(
    _CLIP + name
    for name in (
        "positional_embedding",
        "text_projection",
        "logit_scale",
        "token_embedding.weight",
        "ln_final.weight",
        "ln_final.bias",
    )
)


class Change(Enum):
    """What is done to a tensor of the checkpoint before it is ours."""

    NOTHING = "nothing"
    #: A 1 x 1 convolution [O, I, 1, 1] is our linear layer [O, I].
    TO_LINEAR = "to linear"
    #: [I, O] is our [O, I].
    TRANSPOSE = "transpose"
    #: Ours is the first, second or third part of a packed projection [3 * O, ...].
    QUERY = "query"
    KEY = "key"
    VALUE = "value"


_PACKED = {Change.QUERY: 0, Change.KEY: 1, Change.VALUE: 2}


@dataclass(frozen=True)
class Origin:
    """Name of a tensor in the checkpoint, and what makes it ours."""

    name: str
    change: Change = Change.NOTHING

    def shape(self, ours: Size) -> tuple[int, ...]:
        """The shape it must have there, from ours."""
        if self.change is Change.TO_LINEAR:
            return (*ours, 1, 1)
        if self.change is Change.TRANSPOSE:
            return tuple(reversed(ours))
        if self.change in _PACKED:
            return (3 * ours[0], *ours[1:])
        return tuple(ours)

    def convert(self, tensor: Tensor) -> Tensor:
        """The checkpoint's tensor, of the right shape, as ours; may share its memory."""
        if self.change is Change.TO_LINEAR:
            return tensor[..., 0, 0]
        if self.change is Change.TRANSPOSE:
            return tensor.T
        if self.change in _PACKED:
            return tensor.chunk(3)[_PACKED[self.change]]
        return tensor


def origin_of(name: str) -> Origin:
    """Where a parameter or buffer of `SyncDreamerNetwork` comes from.

    Raises:
        KeyError: the network has no such name.
    """
    part, _, rest = name.partition(".")
    if part in ("poses", "Ks", "azimuth", "time_embed", "cc_projection", "spatial_volume"):
        return Origin(name)
    if part in ("vae", "clip"):
        return {"vae": _vae, "clip": _clip}[part](rest)
    if part == "denoiser" and rest.startswith("unet."):
        return Origin(_UNET + _unet(rest.removeprefix("unet.")))
    if part == "denoiser":
        return Origin(_UNET + rest)
    raise KeyError(name)


_Rule = tuple[str, Callable[[re.Match[str]], str]]


def _apply(rules: tuple[_Rule, ...], name: str) -> tuple[str, str]:
    """The first rule that matches the start of a name rewrites it: the new start and the rest."""
    for pattern, rewrite in rules:
        match = re.match(pattern, name)
        if match:
            return rewrite(match), name[match.end() :]
    raise KeyError(name)


def _replace(name: str, parts: dict[str, str]) -> str:
    """`name` with the first of `parts` that begins it exchanged."""
    for ours, theirs in parts.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name


# --- UNet: every block of ours has 2 layers on the way down and 3 on the way up, hence the threes.

_UNET_RESNET = {
    "norm1.": "in_layers.0.",
    "conv1.": "in_layers.2.",
    "time_emb_proj.": "emb_layers.1.",
    "norm2.": "out_layers.0.",
    "conv2.": "out_layers.3.",
    "conv_shortcut.": "skip_connection.",
}


def _numbers(match: re.Match[str]) -> tuple[int, ...]:
    return tuple(int(group) for group in match.groups())


def _down(match: re.Match[str], slot: int) -> str:
    block, layer = _numbers(match)
    return f"input_blocks.{1 + 3 * block + layer}.{slot}."


def _up(match: re.Match[str], slot: int) -> str:
    block, layer = _numbers(match)
    return f"output_blocks.{3 * block + layer}.{slot}."


def _unet_upsampler(match: re.Match[str]) -> str:
    (block,) = _numbers(match)
    # After the residual block, and after the attention where the level has one.
    return f"output_blocks.{3 * block + 2}.{1 if block == 0 else 2}."


_UNET_RULES: tuple[_Rule, ...] = (
    (r"conv_in\.", lambda _: "input_blocks.0.0."),
    (r"time_embedding\.linear_1\.", lambda _: "time_embed.0."),
    (r"time_embedding\.linear_2\.", lambda _: "time_embed.2."),
    (r"conv_norm_out\.", lambda _: "out.0."),
    (r"conv_out\.", lambda _: "out.2."),
    (r"down_blocks\.(\d)\.resnets\.(\d)\.", lambda m: _down(m, 0)),
    (r"down_blocks\.(\d)\.attentions\.(\d)\.", lambda m: _down(m, 1)),
    (
        r"down_blocks\.(\d)\.downsamplers\.0\.conv\.",
        lambda m: f"input_blocks.{3 * (int(m[1]) + 1)}.0.op.",
    ),
    (r"mid_block\.resnets\.0\.", lambda _: "middle_block.0."),
    (r"mid_block\.attentions\.0\.", lambda _: "middle_block.1."),
    (r"mid_block\.resnets\.1\.", lambda _: "middle_block.2."),
    (r"up_blocks\.(\d)\.resnets\.(\d)\.", lambda m: _up(m, 0)),
    (r"up_blocks\.(\d)\.attentions\.(\d)\.", lambda m: _up(m, 1)),
    (r"up_blocks\.(\d)\.upsamplers\.0\.", _unet_upsampler),
)


def _unet(name: str) -> str:
    start, inside = _apply(_UNET_RULES, name)
    return start + (_replace(inside, _UNET_RESNET) if ".resnets." in name else inside)


# --- Autoencoder

_VAE_ATTENTION = {
    "group_norm.": "norm.",
    "to_q.": "q.",
    "to_k.": "k.",
    "to_v.": "v.",
    "to_out.0.": "proj_out.",
}

_VAE_RULES: tuple[_Rule, ...] = (
    (r"(encoder|decoder)\.mid_block\.resnets\.0\.", lambda m: f"{m[1]}.mid.block_1."),
    (r"(encoder|decoder)\.mid_block\.resnets\.1\.", lambda m: f"{m[1]}.mid.block_2."),
    (
        r"encoder\.down_blocks\.(\d)\.resnets\.(\d)\.",
        lambda m: f"encoder.down.{m[1]}.block.{m[2]}.",
    ),
    (
        r"encoder\.down_blocks\.(\d)\.downsamplers\.0\.",
        lambda m: f"encoder.down.{m[1]}.downsample.",
    ),
    # Counted from the finest level there, from the coarsest here.
    (
        r"decoder\.up_blocks\.(\d)\.resnets\.(\d)\.",
        lambda m: f"decoder.up.{3 - int(m[1])}.block.{m[2]}.",
    ),
    (
        r"decoder\.up_blocks\.(\d)\.upsamplers\.0\.",
        lambda m: f"decoder.up.{3 - int(m[1])}.upsample.",
    ),
    (r"(encoder|decoder)\.conv_norm_out\.", lambda m: f"{m[1]}.norm_out."),
    (r"(encoder|decoder)\.(conv_in|conv_out)\.", lambda m: f"{m[1]}.{m[2]}."),
    (r"(quant_conv|post_quant_conv)\.", lambda m: f"{m[1]}."),
)


def _vae(name: str) -> Origin:
    attention = re.match(r"(encoder|decoder)\.mid_block\.attentions\.0\.", name)
    if attention:
        inside = name[attention.end() :]
        theirs = f"{_VAE}{attention[1]}.mid.attn_1.{_replace(inside, _VAE_ATTENTION)}"
        is_matrix = inside.endswith("weight") and not inside.startswith("group_norm")
        return Origin(theirs, Change.TO_LINEAR if is_matrix else Change.NOTHING)
    start, inside = _apply(_VAE_RULES, name)
    return Origin(_VAE + start + inside.replace("conv_shortcut.", "nin_shortcut."))


# --- CLIP

_CLIP_TOP = {
    "embeddings.class_embedding": "class_embedding",
    "embeddings.patch_embedding.weight": "conv1.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "pre_layrnorm.": "ln_pre.",
    "post_layernorm.": "ln_post.",
}
_CLIP_LAYER = {
    "self_attn.out_proj.": "attn.out_proj.",
    "layer_norm1.": "ln_1.",
    "layer_norm2.": "ln_2.",
    "mlp.fc1.": "mlp.c_fc.",
    "mlp.fc2.": "mlp.c_proj.",
}
_CLIP_PACKED = {"q": Change.QUERY, "k": Change.KEY, "v": Change.VALUE}


def _clip(name: str) -> Origin:
    if name == "visual_projection.weight":
        return Origin(f"{_VISUAL}proj", Change.TRANSPOSE)
    name = name.removeprefix("vision_model.")
    layer = re.match(r"encoder\.layers\.(\d+)\.", name)
    if layer is None:
        theirs = _replace(name, _CLIP_TOP)
        if theirs == name:
            raise KeyError(name)
        return Origin(_VISUAL + theirs)
    block = f"{_VISUAL}transformer.resblocks.{layer[1]}."
    inside = name[layer.end() :]
    packed = re.fullmatch(r"self_attn\.([qkv])_proj\.(weight|bias)", inside)
    if packed:
        return Origin(f"{block}attn.in_proj_{packed[2]}", _CLIP_PACKED[packed[1]])
    return Origin(block + _replace(inside, _CLIP_LAYER))
