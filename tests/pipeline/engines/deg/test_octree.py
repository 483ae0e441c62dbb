"""Points drawn from the octree: against the reference's run and against a loop in exact numbers."""

import warnings
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.control import Control
from pipeline.engines.deg import octree_network, octree_sampling
from pipeline.engines.deg.decoder_attention import CrossAttention, KeysValues
from pipeline.engines.deg.deg_layers import MultiHeadNorm
from pipeline.engines.deg.octree_sampling import (
    OctreeLevel,
    OctreePoints,
    SeededDraws,
    sample_octree,
    share_out,
)
from pipeline.errors import Cancelled, ModelFailed
from tests.pipeline.engines.deg.golden_files import relative_error
from tests.pipeline.engines.deg.tiny_decoders import GoldenDraws, build_octree, tiny_octree

CPU = torch.device("cpu")
#: Measured: 3e-7 at worst. Wanted of the probabilities, and of everything else.
NETWORK, REST = 2e-6, 1e-5


@pytest.fixture(scope="module")
def run(golden: dict[str, Tensor]) -> tuple[OctreePoints, list[OctreeLevel]]:
    """The golden run once more."""
    network = tiny_octree()
    levels: list[OctreeLevel] = []
    with torch.inference_mode():
        memory = network.read_latent(golden["out.latent"])
        drawn = sample_octree(
            lambda centres, level: network(centres, level, memory),
            40,
            GoldenDraws(),
            CPU,
            watch=levels.append,
        )
    return drawn, levels


def test_every_level_is_the_reference_s(
    golden: dict[str, Tensor], run: tuple[OctreePoints, list[OctreeLevel]]
):
    _, levels = run
    assert [level.level for level in levels] == list(range(1, 9))
    for level in levels:
        k = level.level
        assert torch.equal(level.counts.int(), golden[f"in.octree.counts.{k}"])
        assert torch.equal(level.chosen.int(), golden[f"out.octree.chosen.{k}"])
        assert torch.equal(level.centres, golden[f"out.octree.parents.{k}"])
        assert relative_error(level.probabilities, golden[f"out.octree.probs.{k}"]) < NETWORK


def test_points_are_the_reference_s(
    golden: dict[str, Tensor], run: tuple[OctreePoints, list[OctreeLevel]]
):
    drawn, _ = run
    assert relative_error(drawn.points[None], golden["out.octree.points"]) < REST
    assert relative_error(drawn.log_probabilities[None], golden["out.octree.log_probs"]) < REST


def probability_error(golden: dict[str, Tensor], network: nn.Module) -> float:
    """Largest error of the probabilities in the cells of the golden run."""
    worst = 0.0
    with torch.inference_mode():
        memory = network.read_latent(golden["out.latent"])
        for k in range(1, 9):
            logits = network(golden[f"out.octree.parents.{k}"], k, memory)
            worst = max(worst, relative_error(logits.softmax(-1), golden[f"out.octree.probs.{k}"]))
    return worst


def block_norm_of_the_head(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(octree_network, "_BLOCK_EPS", 1e-5)


def head_norm_of_the_blocks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(octree_network, "_HEAD_EPS", 1e-6)


def level_number_for_its_resolution(patch: pytest.MonkeyPatch) -> None:
    waves = octree_network.level_waves
    patch.setattr(
        octree_network,
        "level_waves",
        lambda resolution, width: waves(resolution.bit_length() - 1, width),
    )


def parents_resolution(patch: pytest.MonkeyPatch) -> None:
    waves = octree_network.level_waves
    patch.setattr(
        octree_network,
        "level_waves",
        lambda resolution, width: waves(resolution // 2, width),
    )


def positions_around_zero(patch: pytest.MonkeyPatch) -> None:
    positions = octree_network.decoder_positions
    patch.setattr(
        octree_network, "decoder_positions", lambda points, width: positions(points - 0.5, width)
    )


def no_norm_of_heads(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(MultiHeadNorm, "forward", lambda self, tokens: tokens)


def values_before_keys(patch: pytest.MonkeyPatch) -> None:
    def read(self: CrossAttention, latent: Tensor) -> KeysValues:
        values, keys = self.to_kv(latent).unflatten(-1, (2, self.heads, -1)).unbind(2)
        return KeysValues(self.k_rms_norm(keys), values)

    patch.setattr(CrossAttention, "read_latent", read)


def exact_gelu(patch: pytest.MonkeyPatch) -> None:
    gelu = nn.functional.gelu
    patch.setattr(nn.functional, "gelu", lambda x, approximate: gelu(x))


@pytest.mark.parametrize(
    "mistake",
    [
        block_norm_of_the_head,
        head_norm_of_the_blocks,
        level_number_for_its_resolution,
        parents_resolution,
        positions_around_zero,
        no_norm_of_heads,
        values_before_keys,
        exact_gelu,
    ],
)
def test_a_mistake_in_the_network_is_seen(
    golden: dict[str, Tensor],
    monkeypatch: pytest.MonkeyPatch,
    mistake: Callable[[pytest.MonkeyPatch], None],
):
    mistake(monkeypatch)
    # Measured: the least, of the norms in blocks, is 2.6e-6.
    assert probability_error(golden, build_octree()) > NETWORK


def golden_points(golden: dict[str, Tensor]) -> Tensor:
    network = tiny_octree()
    with torch.inference_mode():
        memory = network.read_latent(golden["out.latent"])
        drawn = sample_octree(
            lambda centres, level: network(centres, level, memory), 40, GoldenDraws(), CPU
        )
    return drawn.points[None]


def next_point_below(patch: pytest.MonkeyPatch) -> None:
    share_out = octree_sampling.share_out
    patch.setattr(octree_sampling, "share_out", lambda p, c, u: share_out(p, c, 1 - u))


def children_from_the_last_axis(patch: pytest.MonkeyPatch) -> None:
    """Bit 0 is +z: the probabilities of a cell belong to other children."""
    share_out, order = octree_sampling.share_out, [0, 4, 2, 6, 1, 5, 3, 7]
    patch.setattr(
        octree_sampling, "share_out", lambda p, c, u: share_out(p, c, u)[:, order].contiguous()
    )


def rounded_shares(patch: pytest.MonkeyPatch) -> None:
    def rounded(p: Tensor, counts: Tensor, _offsets: Tensor) -> Tensor:
        up_to = (p.cumsum(-1) * counts[:, None]).round()
        return torch.diff(up_to, prepend=torch.zeros_like(up_to[:, :1])).long()

    patch.setattr(octree_sampling, "share_out", rounded)


@pytest.mark.parametrize("mistake", [next_point_below, children_from_the_last_axis, rounded_shares])
def test_a_mistake_in_the_draws_is_seen(
    golden: dict[str, Tensor],
    monkeypatch: pytest.MonkeyPatch,
    mistake: Callable[[pytest.MonkeyPatch], None],
):
    mistake(monkeypatch)
    with pytest.raises(AssertionError):
        # Either other cells are kept, or their points lie elsewhere.
        assert relative_error(golden_points(golden), golden["out.octree.points"]) < 100 * REST


def test_keys_and_values_made_once_are_those_of_every_level(golden: dict[str, Tensor]):
    """The plain form: attention written out, everything worked out anew for every cell."""
    network = build_octree()
    heads = network.config.heads
    latent = golden["out.latent"]

    def rms(x: Tensor, gamma: Tensor) -> Tensor:
        return x / x.norm(dim=-1, keepdim=True).clamp_min(1e-12) * gamma * x.shape[-1] ** 0.5

    def plain_attention(attention: CrossAttention, tokens: Tensor) -> Tensor:
        outputs = []
        for token in tokens:
            query = rms(attention.to_q(token).view(heads, -1), attention.q_rms_norm.gamma)
            both = attention.to_kv(latent[0]).view(len(latent[0]), 2, heads, -1)
            keys = rms(both[:, 0], attention.k_rms_norm.gamma)
            weights = torch.einsum("hd,mhd->hm", query, keys) / keys.shape[-1] ** 0.5
            heard = torch.einsum("hm,mhd->hd", weights.softmax(dim=-1), both[:, 1])
            outputs.append(attention.to_out(heard.flatten()))
        return torch.stack(outputs)

    def plain(centres: Tensor, level: int) -> Tensor:
        memory = network.read_latent(latent)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                CrossAttention,
                "forward",
                lambda self, tokens, _memory: plain_attention(self, tokens[0])[None],
            )
            logits: Tensor = network(centres, level, memory)
        return logits

    with torch.inference_mode():
        memory = network.read_latent(latent)
        for level in (1, 4, 8):
            centres = golden[f"out.octree.parents.{level}"][:9]
            ours = network(centres, level, memory)
            assert relative_error(ours, plain(centres, level)) < 1e-6


def test_cells_do_not_see_each_other(golden: dict[str, Tensor]):
    network = tiny_octree()
    with torch.inference_mode():
        memory = network.read_latent(golden["out.latent"])
        centres = golden["out.octree.parents.8"]
        together = network(centres, 8, memory)
        in_parts = torch.cat([network(part, 8, memory) for part in centres.split(7)])
        assert relative_error(in_parts, together) < 1e-6
        assert relative_error(network(centres, 8, memory, cells_at_once=7), together) < 1e-6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_logits_of_half_precision_weights_are_near(golden: dict[str, Tensor], dtype: torch.dtype):
    network = build_octree().to(dtype)
    with torch.inference_mode():
        memory = network.read_latent(golden["out.latent"])
        logits = network(golden["out.octree.parents.8"], 8, memory)
    assert logits.dtype == torch.float32
    error = relative_error(logits.softmax(-1), golden["out.octree.probs.8"])
    # Measured: 4e-4 and 4e-3.
    assert error < {torch.float16: 2e-3, torch.bfloat16: 2e-2}[dtype]


def slow_shares(probabilities: list[np.float32], count: int, u: np.float32) -> list[int]:
    """Systematic resampling as it is defined, one point after another, in exact numbers."""
    cdf, total = [], np.float32(0)
    for p in probabilities:
        total = np.float32(total + p)
        cdf.append(Fraction(float(total)))
    shares = [0] * 8
    for i in range(count):
        place = (Fraction(float(u)) + i) / count
        child = next((j for j, edge in enumerate(cdf) if place <= edge), 7)
        shares[child] += 1
    return shares


@settings(deadline=None, max_examples=200)
@given(
    logits=st.lists(st.floats(-12, 12, width=32), min_size=8, max_size=8),
    count=st.integers(0, 80),
    u=st.floats(0, 1, width=32, exclude_max=True),
)
def test_the_closed_form_is_the_loop(logits: list[float], count: int, u: float):
    probabilities = torch.tensor(logits, dtype=torch.float32).softmax(0)
    total = probabilities.sum().clamp_min(1)
    shares = share_out(probabilities[None], torch.tensor([count]), torch.tensor([u]))
    wanted = slow_shares(list((probabilities / total).numpy()), count, np.float32(u))
    assert shares[0].tolist() == wanted


def test_edges_of_the_closed_form():
    eighths = torch.full((1, 8), 0.125)
    one, zero = torch.tensor([1]), torch.tensor([0.0])
    # (u + i) / c on an edge belongs to the child below it; u = 0 is below every child's edge.
    assert share_out(eighths, one, zero).tolist() == [[1, 0, 0, 0, 0, 0, 0, 0]]
    assert share_out(eighths, one, torch.tensor([0.125])).tolist() == [[1, 0, 0, 0, 0, 0, 0, 0]]
    assert share_out(eighths, torch.tensor([0]), zero).sum() == 0
    # What lies above the last edge is the last child's, however unlikely that is.
    low = torch.tensor([[0.5, 0, 0, 0, 0, 0, 0, 0]])
    assert share_out(low, torch.tensor([4]), torch.tensor([0.5])).tolist() == [
        [2, 0, 0, 0, 0, 0, 0, 2]
    ]


def test_large_counts_are_shared_out_to_the_last_point():
    generator = torch.Generator().manual_seed(5)
    probabilities = torch.randn(300, 8, generator=generator).mul(3).softmax(-1)
    counts = torch.randint(0, 40_000, (300,), generator=generator)
    shares = share_out(probabilities, counts, torch.rand(300, generator=generator))
    assert torch.equal(shares.sum(-1), counts)
    assert (shares >= 0).all()
    assert ((shares - probabilities * counts[:, None]).abs() < 1.01).all()


def spread(centres: Tensor, level: int) -> Tensor:
    """Logits that a place and a level decide."""
    waves = torch.sin(centres @ torch.tensor([[3.0, 5.0, 7.0]]).T * level)
    return waves * torch.linspace(-2, 2, 8)


def test_points_follow_from_the_seed_alone():
    first, again = (sample_octree(spread, 500, SeededDraws(3), CPU) for _ in range(2))
    assert torch.equal(first.points, again.points)
    assert not torch.equal(first.points, sample_octree(spread, 500, SeededDraws(4), CPU).points)


def test_every_level_draws_anew():
    """The same numbers in all levels would send a point the same way again and again."""
    draws = SeededDraws(3)
    drawn = [tuple(draws.offsets(level, 64).tolist()) for level in range(1, 9)]
    assert len(set(drawn)) == 8
    assert set().union(*drawn).isdisjoint(draws.jitter(64)[:, 0].tolist())
    # What a level draws does not depend on how many cells it has.
    assert tuple(draws.offsets(5, 100)[:64].tolist()) == drawn[4]


def test_points_lie_in_their_cells_and_their_number_is_exact():
    levels: list[OctreeLevel] = []
    drawn = sample_octree(spread, 777, SeededDraws(1), CPU, watch=levels.append)
    assert drawn.points.shape == (777, 3)
    assert drawn.points.min() >= 0
    assert drawn.points.max() < 1
    for level in levels:
        assert level.counts.sum() == 777
        cells = set(map(tuple, (drawn.points * 2 ** (level.level - 1)).floor().int().tolist()))
        parents = (level.centres * 2 ** (level.level - 1)).floor().int().tolist()
        assert cells == set(map(tuple, parents))
    # The last level's children are where the points are, and how many.
    last = levels[-1]
    found = (drawn.points * 256).floor().int().unique(dim=0, return_counts=True)[1]
    assert sorted(found.tolist()) == sorted(last.chosen[last.chosen > 0].tolist())


def test_more_points_keep_the_places():
    """Another density of the same seed is another sample of the same object."""
    few = sample_octree(spread, 4_000, SeededDraws(1), CPU).points.mean(dim=0)
    many = sample_octree(spread, 32_000, SeededDraws(1), CPU).points.mean(dim=0)
    assert (few - many).abs().max() < 0.01


class Waits(TorchDispatchMode):
    """Counts operations that make the host wait for a GPU."""

    WAITING = ("_local_scalar_dense", "nonzero", "unique", "masked_select", "equal", "is_nonzero")

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = str(func)
        masks = name.startswith("aten.index") and any(
            isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)
            for index in (args[1] if len(args) > 1 and isinstance(args[1], (list, tuple)) else [])
        )
        unsized = "repeat_interleave" in name and not (kwargs or {}).get("output_size")
        if masks or unsized or any(word in name for word in self.WAITING):
            self.names.append(name)
        return func(*args, **(kwargs or {}))


def test_the_device_is_waited_for_once_a_level(
    monkeypatch: pytest.MonkeyPatch, golden: dict[str, Tensor]
):
    network = tiny_octree()
    reads: list[int] = []
    read = octree_sampling.read
    monkeypatch.setattr(
        octree_sampling, "read", lambda numbers: (reads.append(1), read(numbers))[1]
    )
    with torch.inference_mode(), Waits() as waits:
        memory = network.read_latent(golden["out.latent"])
        sample_octree(
            lambda centres, level: network(centres, level, memory), 6, SeededDraws(0), CPU
        )
    assert waits.names == []
    assert len(reads) == 8


def test_the_count_of_waits_sees_them():
    ones = torch.ones(3)
    with Waits() as waits:
        ones.sum().item()
        ones[ones > 0]
        torch.nonzero(ones)
        torch.repeat_interleave(torch.arange(2), torch.tensor([1, 2]))
    assert len(waits.names) == 4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_waited_for_once_a_level(golden: dict[str, Tensor]):
    device = torch.device("cuda")
    network = build_octree().to(device)
    with torch.inference_mode():
        memory = network.read_latent(golden["out.latent"].to(device))
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                drawn = sample_octree(
                    lambda centres, level: network(centres, level, memory),
                    40,
                    GoldenDraws(),
                    device,
                )
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert len([w for w in caught if "synchronizing" in str(w.message)]) == 8
    assert relative_error(drawn.points[None], golden["out.octree.points"]) < REST


def test_logits_that_are_not_finite_are_an_error():
    def broken(centres: Tensor, level: int) -> Tensor:
        logits = torch.zeros(len(centres), 8)
        if level == 3:
            logits[0, 4] = torch.nan
        return logits

    with pytest.raises(ModelFailed, match="not finite at level 3"):
        sample_octree(broken, 100, SeededDraws(0), CPU)


def test_a_stop_is_heard_between_levels():
    control = Control()

    def stopping(centres: Tensor, level: int) -> Tensor:
        if level == 2:
            control.stop.set()
        assert level < 3
        return torch.zeros(len(centres), 8)

    with pytest.raises(Cancelled):
        sample_octree(stopping, 10, SeededDraws(0), CPU, control=control)
