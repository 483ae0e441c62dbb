"""Every pixel of a view attends to the points along its own ray: the depth transformer.

It knows one layer, not where in the UNet it stands. (c) 2023 Yuan Liu, MIT, for the architecture
and the names of the parameters (arXiv 2309.03453, section 3.4).
"""

from __future__ import annotations

from torch import Tensor, einsum, nn
from torch.nn import functional

from pipeline.engines.views.syncdreamer.config import VOLUME_NORM_GROUPS

_HEADS = 4


class _DepthAttention(nn.Module):
    """Projections of the attention; 1 x 1 convolutions because the checkpoint stores them so."""

    def __init__(self, inner: int, volume_dim: int) -> None:
        super().__init__()
        self.to_q = nn.Conv2d(inner, inner, 1, bias=False)
        self.to_k = nn.Conv3d(volume_dim, inner, 1, bias=False)
        self.to_v = nn.Conv3d(volume_dim, inner, 1, bias=False)
        self.to_out = nn.Conv2d(inner, inner, 1, bias=False)


class DepthTransformer(nn.Module):
    """`x + proj_out(attention(proj_in(x), proj_context(volume)))`, softmax over depth per pixel.

    Args:
        dim: channels of the UNet's features.
        volume_dim: C, channels of the frustum volume; heads are C / 2 wide, so inner = 2 C.
    """

    def __init__(self, dim: int, volume_dim: int) -> None:
        super().__init__()
        inner = 2 * volume_dim
        self.head_dim = inner // _HEADS
        self.proj_in = nn.Sequential(
            nn.Conv2d(dim, inner, 1), nn.GroupNorm(VOLUME_NORM_GROUPS, inner), nn.SiLU()
        )
        self.proj_context = nn.Sequential(
            nn.Conv3d(volume_dim, volume_dim, 1, bias=False),
            nn.GroupNorm(VOLUME_NORM_GROUPS, volume_dim),
            nn.ReLU(),
        )
        self.depth_attn = _DepthAttention(inner, volume_dim)
        self.proj_out = nn.Sequential(
            nn.GroupNorm(VOLUME_NORM_GROUPS, inner),
            nn.ReLU(),
            nn.Conv2d(inner, inner, 3, padding=1, bias=False),
            nn.GroupNorm(VOLUME_NORM_GROUPS, inner),
            nn.ReLU(),
            nn.Conv2d(inner, dim, 3, padding=1, bias=False),
        )

    def forward(self, x: Tensor, volume: Tensor) -> Tensor:
        """[n, dim, h, w] and [n, C, D, h, w] -> [n, dim, h, w].

        W_k and W_v are absorbed: q.(W_k c) = (W_k^T q).c and sum a (W_v c) = W_v sum a c, so the
        attention runs over the C channels of the context itself and no keys or values of 2 C
        channels are ever made.
        """
        n, _, h, w = x.shape
        context = self.proj_context(volume)
        channels = context.shape[1]
        attention = self.depth_attn
        queries = attention.to_q(self.proj_in(x)).view(n, _HEADS, self.head_dim, h * w)
        key_weight = attention.to_k.weight.view(_HEADS, self.head_dim, channels)
        value_weight = attention.to_v.weight.view(_HEADS, self.head_dim, channels)
        absorbed = einsum("nedp,edc->npec", queries, key_weight)
        along_ray = context.flatten(3).permute(0, 3, 2, 1).contiguous()  # [n, pixels, D, C]
        mixed = functional.scaled_dot_product_attention(
            absorbed, along_ray, along_ray, scale=self.head_dim**-0.5
        )
        values = einsum("npec,edc->nedp", mixed, value_weight).reshape(n, -1, h, w)
        out: Tensor = x + self.proj_out(attention.to_out(values))
        return out

    def unconditional_term(self, height: int, width: int) -> Tensor:
        """What `forward(x, 0) - x` is for every x: a constant image [1, dim, height, width].

        Convolution and norm turn a zero volume into the norm's bias at every point, so all keys
        of a ray are equal, the softmax is uniform and the values do not depend on the queries.
        """
        norm = self.proj_context[1]
        assert isinstance(norm, nn.GroupNorm)
        context = functional.relu(norm.bias)
        values = self.depth_attn.to_v.weight.flatten(1) @ context
        image = values.view(1, -1, 1, 1).expand(-1, -1, height, width)
        term: Tensor = self.proj_out(self.depth_attn.to_out(image))
        return term
