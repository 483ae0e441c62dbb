"""`glimpse3d plan`: what fits where, and how fast it is."""

import json

import pytest
import yaml
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import DeploymentSchema
from typer.testing import CliRunner

from pipeline.engines.registry import PRESETS
from pipeline.errors import InvalidInput, InvalidOption
from pipeline.ports import PortName
from serve_app.cli.main import app
from serve_app.cli.plan import HOSTS, Plan, StageTimes, make_plan, read_times

TIMES = StageTimes(device="a card", views=4, depth=0.2, fit=5, enhance=2, improve=1)


def load(plan: Plan) -> float:
    return sum(placement.share * placement.replicas for placement in plan.placements)


@pytest.mark.parametrize("gpus", [1, 2, 3, 4, 8, 16])
@pytest.mark.parametrize("memory_gib", [24, 48, 80])
@pytest.mark.parametrize("times", [None, TIMES])
def test_every_host_has_the_memory_it_needs_and_no_card_is_lent_twice(gpus, memory_gib, times):
    plan = make_plan(gpus, memory_gib, times=times)
    assert [p.host for p in plan.placements] == [host for host in HOSTS if host != "Generator"]
    for placement in plan.placements:
        assert placement.share * memory_gib >= placement.demand.total
    assert load(plan) <= gpus + 1e-9
    # Whole cards are used: no more than a card is left over.
    assert load(plan) > gpus - 1


def test_shares_of_one_card_fit_on_it_together():
    plan = make_plan(1, 24)
    assert sum(plan.shares().values()) <= 1


def test_the_diffusion_models_get_cards_of_their_own():
    shares = make_plan(4, 24).shares()
    assert shares["Views"] == shares["Enhancer"] == 1
    assert shares["Depth"] + shares["Splats"] <= 1


@pytest.mark.parametrize("engine", ["triposplat", "idol", "idol-turbo"])
@pytest.mark.parametrize("gpus", [1, 2, 3, 4, 8])
def test_a_generator_has_the_memory_it_needs_beside_splats_and_the_enhancer(engine, gpus):
    plan = make_plan(gpus, 24, engines=PRESETS[engine])
    by_host = {placed.host: placed for placed in plan.placements}
    assert [*by_host] == ["Generator", "Views", "Splats", "Enhancer"]
    assert by_host["Generator"].engine == engine
    for placed in plan.placements:
        assert placed.share * 24 >= placed.demand.total
    assert gpus - 1 < load(plan) <= gpus + 1e-9


def test_a_generator_gets_a_card_of_its_own_in_place_of_views():
    shares = make_plan(3, 24, engines=PRESETS["triposplat"]).shares()
    assert shares["Generator"] == shares["Enhancer"] == 1
    assert shares["Views"] + shares["Splats"] <= 1


def test_with_a_generator_neither_views_nor_a_fit_take_time():
    times = StageTimes(device="a card", generate=4, enhance=2, improve=1)
    plan = make_plan(3, 24, engines=PRESETS["triposplat"], times=times)
    # Rounds: 3. The generator 4 s, the enhancer 6 s, splats 3 s.
    assert plan.projects_per_hour == pytest.approx(3600 / 6)
    assert plan.bottleneck == "Enhancer"
    with pytest.raises(InvalidInput, match=r"lack the stage generate; `python -m bench\.gpu deg"):
        make_plan(3, 24, engines=PRESETS["triposplat"], times=TIMES)
    with pytest.raises(InvalidInput, match=r"lack the stage views; `python -m bench\.gpu --json"):
        make_plan(3, 24, times=times)


def test_further_cards_go_where_the_work_is():
    slow_views = StageTimes(device="", views=60, depth=0.1, fit=1, enhance=0.1, improve=0.1)
    slow_fit = StageTimes(device="", views=1, depth=0.1, fit=60, enhance=0.1, improve=0.1)
    by_host = {p.host: p.replicas for p in make_plan(8, 24, times=slow_views).placements}
    assert by_host == {"Views": 6, "Depth": 1, "Splats": 1, "Enhancer": 1}
    by_host = {p.host: p.replicas for p in make_plan(8, 24, times=slow_fit).placements}
    assert by_host == {"Views": 1, "Depth": 6, "Splats": 6, "Enhancer": 1}


def test_throughput_is_that_of_the_busiest_card():
    # Rounds: 3. Views 4 s, enhancer 6 s, the shared card .2 + 5 + 3 s.
    plan = make_plan(3, 24, times=TIMES)
    assert plan.projects_per_hour == pytest.approx(3600 / 8.2)
    assert plan.bottleneck == "Splats"
    # On one card they work one after the other.
    assert make_plan(1, 24, times=TIMES).projects_per_hour == pytest.approx(3600 / 18.2)
    assert make_plan(3, 24).projects_per_hour is None


def test_engines_without_a_gpu_are_left_out():
    engines = {**PRESETS["gpu"], PortName.ENHANCER: "realesrgan"}
    assert set(make_plan(1, 16, engines=engines).shares()) == {"Views", "Depth", "Splats"}


@pytest.mark.parametrize(
    ("gpus", "memory_gib", "told"),
    [
        (1, 16, "share a GPU of 16 GiB"),
        (4, 8, r"Enhancer \(sdxl\) needs 10.9 GiB.*realesrgan"),
        (0, 24, "gpus must be"),
        (1, 0, "memory must be"),
    ],
)
def test_what_does_not_fit_is_said(gpus, memory_gib, told):
    with pytest.raises(InvalidOption, match=told):
        make_plan(gpus, memory_gib)


def test_stage_times_are_read_from_a_bench(tmp_path):
    path = tmp_path / "gpu.json"
    path.write_text(json.dumps({"stages": TIMES.model_dump(), "more": 1}))
    assert read_times(path) == TIMES
    path.write_text(json.dumps({"stages": {"views": -1}}))
    with pytest.raises(InvalidInput, match=r"bench\.gpu"):
        read_times(path)
    path.write_text(json.dumps({"stages": TIMES.model_dump(), "tiny": True}))
    with pytest.raises(InvalidInput, match="small networks"):
        read_times(path)
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_times(tmp_path / "absent.json")


def test_stage_times_of_two_benches_of_one_card_are_taken_together(tmp_path):
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    paths[0].write_text(json.dumps({"stages": TIMES.model_dump()}))
    paths[1].write_text(json.dumps({"stages": {"device": "a card", "generate": 3.5}}))
    assert read_times(*paths) == TIMES.model_copy(update={"generate": 3.5})
    paths[1].write_text(json.dumps({"stages": {"device": "another", "generate": 3.5}}))
    with pytest.raises(InvalidInput, match="different cards: a card, another"):
        read_times(*paths)


# -- the command ---------------------------------------------------------------------------------


def ask(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["plan", *arguments], env={"COLUMNS": "200"})
    return result.exit_code, result.output


def test_the_command_prints_a_table_and_says_what_is_not_measured(tmp_path):
    code, said = ask("--gpus", "4", "--memory", "24")
    assert code == 0
    assert "syncdreamer" in said
    assert "python -m bench.gpu" in said
    path = tmp_path / "gpu.json"
    path.write_text(json.dumps({"stages": TIMES.model_dump()}))
    code, said = ask("--gpus", "3", "--memory", "24", "--times", str(path))
    assert code == 0
    assert "439 projects an hour" in said
    assert "a card" in said


def test_the_command_prints_yaml_that_serve_reads():
    code, said = ask("--gpus", "4", "--memory", "24", "--yaml")
    assert code == 0
    deployments = yaml.safe_load(said)["deployments"]
    assert [d["name"] for d in deployments] == ["Views", "Depth", "Splats", "Enhancer"]
    for deployment in deployments:
        DeploymentSchema.model_validate(deployment)
    assert deployments[0]["autoscaling_config"]["max_replicas"] == 2
    policy = AutoscalingConfig(**deployments[0]["autoscaling_config"]).policy
    assert policy.get_policy()(**policy.policy_kwargs)


def test_the_command_plans_for_a_generator_and_says_what_is_derived():
    code, said = ask("--gpus", "1", "--memory", "24", "--engines", "triposplat")
    assert code == 0
    assert "triposplat" in said
    assert "derived from the sizes of its tensors, not measured" in said
    code, said = ask("--engines", "magic")
    assert code == 1
    assert "no 'magic' engines" in said


def test_the_command_says_what_does_not_fit():
    code, said = ask("--gpus", "1", "--memory", "12")
    assert code == 1
    assert "share a GPU of 12 GiB" in said
