"""A picture of what the network says about some made objects, beside the truth.

It does not know how the network was trained.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from training.prior.batches import Batch
from training.prior.losses import HIT_SHARE

#: Offsets from -DEPTH_RANGE (white) to DEPTH_RANGE (black), frame widths.
DEPTH_RANGE = 0.5


def draw_sheet(network: nn.Module, batch: Batch, path: Path) -> None:
    """One row per object: photo; front true, said; back true, said; back's colours true, and all
    hypotheses, the likeliest first."""
    with torch.no_grad():
        answer = batch.answered_by(network)
    truth = batch.truth
    hit = (truth.hit >= HIT_SHARE).float()
    order = answer.scores.argsort(1, descending=True)
    backs = answer.copies * truth.photo[:, None] + (1 - answer.copies) * answer.colors
    columns = [truth.photo * hit + 1 - hit]
    for wanted, said in ((truth.front, answer.front), (truth.back, answer.back)):
        columns += [_gray(wanted, hit), _gray(said, hit)]
    columns.append(truth.back_color * hit + 1 - hit)
    rows = torch.arange(len(hit), device=hit.device)
    columns += [backs[rows, order[:, k]] * hit + 1 - hit for k in range(order.shape[1])]
    sheet = torch.cat([torch.cat(list(column), 1) for column in columns], 2)
    pixels = (255 * sheet.clamp(0, 1)).round().byte().permute(1, 2, 0).cpu().numpy()
    Image.fromarray(np.repeat(np.repeat(pixels, 2, 0), 2, 1)).save(path)


def _gray(offsets: Tensor, hit: Tensor) -> Tensor:
    shade = 0.5 - 0.5 * offsets / DEPTH_RANGE
    return (shade * hit + 1 - hit).clamp(0, 1).expand(-1, 3, -1, -1)
