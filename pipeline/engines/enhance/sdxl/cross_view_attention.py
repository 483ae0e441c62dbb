"""Self-attention across views: every view also reads the keys and values of its neighbours.

It needs no training and no weights of its own, and it does not know cameras: views are a ring in
the order of the batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention


class CrossViewAttention:
    """Attention processor of diffusers for a UNet whose batch is all views of one object.

    View i attends to itself, to both neighbours in the ring and to view 0, which ties views that
    lie far apart. With up to three views a view is read more than once, which only weighs it more.
    """

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Self-attention of the tokens [V, L, C] of V views, same shape and dtype.

        The last three arguments are part of the call of diffusers; SDXL's self-attention passes
        none of them.
        """
        query = attn.to_q(hidden_states)
        key, value = (
            _with_neighbours(attn.to_k(hidden_states)),
            _with_neighbours(attn.to_v(hidden_states)),
        )
        width = query.shape[-1] // attn.heads
        query, key, value = (
            t.unflatten(-1, (attn.heads, width)).transpose(1, 2) for t in (query, key, value)
        )
        mixed = scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        projected: torch.Tensor = attn.to_out[1](attn.to_out[0](mixed))
        projected /= attn.rescale_output_factor
        return projected


def _with_neighbours(tokens: torch.Tensor) -> torch.Tensor:
    """[V, L, C] -> [V, 4 L, C]: itself, the view before, the view after, view 0."""
    parts = (tokens, tokens.roll(1, 0), tokens.roll(-1, 0), tokens[:1].expand_as(tokens))
    return torch.cat(parts, dim=1)


def join_views(unet: Any) -> None:
    """Give every self-attention of the UNet the processor; cross-attention to the text stays."""
    joined = CrossViewAttention()
    unet.set_attn_processor(
        {
            name: joined if name.endswith("attn1.processor") else processor
            for name, processor in unet.attn_processors.items()
        }
    )
