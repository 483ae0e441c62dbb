"""Sizes of the DeG networks."""

import json
from typing import Any

import pytest

from pipeline.engines.deg.deg_config import DegConfig, FlowConfig
from pipeline.errors import Unavailable
from tests.pipeline.engines.deg.golden_files import (
    PARTS,
    golden_settings,
    released_keys,
    tiny_weights,
)


def test_the_released_sizes_are_those_of_the_specification():
    config = DegConfig.released()
    assert config.photo_tokens == 4101
    assert config.flow.head_width == config.octree.head_width == 64
    assert config.vae.token_channels == 128
    assert DegConfig.from_json(config.to_json()) == config


def test_the_golden_configuration_is_read_from_its_metadata(config: DegConfig):
    assert config.canvas == 64
    assert config.photo_tokens == 21
    assert config.flow == FlowConfig(
        latent_tokens=64,
        latent_channels=8,
        width=128,
        feature1_channels=32,
        feature2_channels=16,
        blocks=3,
        heads=4,
    )
    assert config.gaussians.gaussians_per_point == 8
    assert DegConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (("flow",), None, "lacks 'flow'"),
        (("flow", "num_blocks"), None, "lacks 'num_blocks'"),
        (("flow", "num_blocks"), 0, "there must be blocks"),
        (("flow", "model_channels"), 100, "multiple of 8 x heads"),
        (("canvas",), 70, "multiple of 16"),
        (("dino", "hidden_size"), 64, "feature1: 64 channels are made and 32 are taken"),
        (("gs", "cond_channels"), 4, "latent of the Gaussians"),
        (("vae", "channels"), [32, 64], "4 numbers"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(path: tuple[str, ...], value: Any, sentence: str):
    values = json.loads(json.dumps(golden_settings()))
    place = values
    for name in path[:-1]:
        place = place[name]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    with pytest.raises(Unavailable, match=sentence):
        DegConfig.from_json(json.dumps(values))


def test_what_is_no_json_is_refused():
    with pytest.raises(Unavailable, match="cannot be used"):
        DegConfig.from_json("sizes")
    with pytest.raises(Unavailable, match="cannot be used"):
        DegConfig.from_json("[]")


def test_every_key_of_the_golden_run_has_a_weight():
    assert {part: len(tiny_weights(part)) for part in PARTS} == {
        "dinov3": 63,
        "vae_encoder": 110,
        "flow": 160,
        "decoder": 84,
    }


def test_the_released_files_add_up_to_their_published_sizes():
    width = {"float16": 2, "bfloat16": 2, "float32": 4}
    count: dict[str, int] = {}
    for key in released_keys():
        if (
            key.shape is not None
            and key.part in ("flow", "octree", "gs")
            and "Idol" not in key.file
        ):
            number = 1
            for n in key.shape:
                number *= n
            count[key.file] = count.get(key.file, 0) + number * width[key.dtype]
    assert count == {
        "diffusion_models/triposplat_fp16.safetensors": 741_052_202,
        "vae/triposplat_vae_decoder_fp16.safetensors": 576_107_666,
    }
