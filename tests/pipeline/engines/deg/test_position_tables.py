"""Tables of positions, moments and levels against the golden ones, also at full size."""

import torch
from torch import Tensor

from pipeline.engines.deg.deg_config import DegConfig
from pipeline.engines.deg.position_tables import (
    decoder_positions,
    flow_positions,
    level_waves,
    sobol_points,
    time_waves,
)
from tests.pipeline.engines.deg.golden_files import relative_error


def test_positions_of_the_latent_are_the_sobol_points_and_shorter_draws_their_beginning(
    golden: dict[str, Tensor],
):
    assert torch.equal(sobol_points(8192), golden["full.pos_pe_8192"])
    assert torch.equal(sobol_points(64)[None], golden["buf.flow.pos_pe"])


def test_position_tables_agree(golden: dict[str, Tensor], config: DegConfig):
    tiny = flow_positions(sobol_points(config.flow.latent_tokens), config.flow.width)
    assert relative_error(tiny[None], golden["out.flow.pos_emb"]) <= 2e-6
    full = flow_positions(sobol_points(8), 1024)
    assert relative_error(full, golden["full.pos_emb_first8"]) <= 2e-6
    assert not full[:, 1020:].any()
    points = golden["full.pos_pe_8192"][:8]
    decoder = decoder_positions(points, 1024)
    assert relative_error(decoder, golden["full.decoder_pos_emb_first8"]) <= 1e-5


def test_waves_of_times_and_levels_agree(golden: dict[str, Tensor]):
    found = time_waves(torch.tensor([0.7]))
    assert relative_error(found, golden["full.timestep_embedding.700"]) <= 1e-5
    for cells in (2, 256):
        assert relative_error(level_waves(cells), golden[f"full.level_embedding.{cells}"]) <= 1e-5


def test_points_are_numbers_where_a_network_without_memory_is_built():
    with torch.device("meta"):
        assert sobol_points(4).device.type == "cpu"
        assert flow_positions(sobol_points(4), 64).device.type == "cpu"
