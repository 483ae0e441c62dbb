"""Random numbers of the DeG engines."""

import torch

from pipeline.engines.deg.deg_draws import Draw, generator_for, normal_noise, uniform_numbers


def test_each_purpose_has_numbers_of_its_own_and_a_seed_brings_them_back():
    first = normal_noise(7, Draw.LATENT_NOISE, (4, 3))
    assert torch.equal(first, normal_noise(7, Draw.LATENT_NOISE, (4, 3)))
    others = [
        normal_noise(8, Draw.LATENT_NOISE, (4, 3)),
        normal_noise(7, Draw.VAE_NOISE, (4, 3)),
        normal_noise(7, Draw.LATENT_NOISE, (4, 3), 1),
    ]
    assert all(not torch.equal(first, other) for other in others)
    assert first.dtype == torch.float32 and first.device.type == "cpu"


def test_uniform_numbers_are_below_one():
    numbers = uniform_numbers(7, Draw.POINT_JITTER, (1000, 3))
    assert numbers.min() >= 0 and numbers.max() < 1


def test_the_largest_seeds_are_taken():
    generator_for(2**31 - 1, Draw.OCTREE_CHOICE, 8)
