"""Which arguments `glimpse3d serve` starts with, by environment and GPUs."""

import os
import stat
from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.engines.registry import PRESETS
from pipeline.errors import InvalidOption, Unavailable
from pipeline.ports import PortName
from serve_app.cli.this_machine import Gpus, app_args, find_gpus
from serve_app.settings import Environment


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts a program of that name in the place of the driver's."""

    def install(script: str) -> None:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    return install


@pytest.fixture
def no_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


def environment(**values: object) -> Environment:
    return Environment(_env_file=None, **values)


def test_cards_are_counted_and_the_smallest_decides(driver):
    driver("printf '81559\\n24564\\n'")
    assert find_gpus() == Gpus(2, 24564 / 1024)


def test_without_a_driver_there_is_no_gpu(no_driver):
    assert find_gpus() is None


def test_a_driver_that_does_not_work_is_no_missing_gpu(driver):
    driver("echo 'NVIDIA-SMI has failed'; exit 9")
    with pytest.raises(Unavailable, match="NVIDIA-SMI has failed"):
        find_gpus()


def test_embedded_engines_need_no_gpu_and_few_processes(no_driver):
    args = app_args(environment())
    assert len(args.hosts) == 3
    assert args.gpu_shares == {}
    assert args.engine_choice().views == "prior"


def test_one_view_engine_may_take_the_place_of_the_sets(driver):
    driver("echo 24564")
    env = environment(engines="gpu", views_engine="relief")
    args = app_args(env)
    assert args.engine_choice() == env.engine_choice()
    assert args.engines == PRESETS["gpu"] | {PortName.VIEWS: "relief"}
    assert set(args.gpu_shares) == {"Depth", "Splats", "Enhancer"}
    embedded = app_args(environment(views_engine="syncdreamer"))
    assert embedded.engine_choice().views == "syncdreamer"
    assert set(embedded.gpu_shares) == {"Views"}


def test_a_view_engine_that_does_not_exist_is_told():
    with pytest.raises(ValidationError, match=r"there are the view engines \['prior', "):
        environment(views_engine="magic")


def test_gpu_engines_get_a_process_each_and_their_shares(driver):
    driver("echo 24564")
    args = app_args(environment(engines="gpu"))
    assert args.engines == PRESETS["gpu"]
    assert sorted(args.hosts) == sorted(
        port.value.title() for port in PortName if port is not PortName.GENERATOR
    )
    assert set(args.gpu_shares) == {"Views", "Depth", "Splats", "Enhancer"}
    assert sum(args.gpu_shares.values()) <= 1


def test_a_card_that_is_too_small_is_told(driver):
    driver("echo 8192")
    with pytest.raises(InvalidOption, match=r"needs 10\.9 GiB"):
        app_args(environment(engines="gpu"))


def test_the_cpu_may_be_asked_for(driver):
    driver("echo 24564")
    args = app_args(environment(engines="gpu", device="cpu"))
    assert args.gpu_shares == {}
    assert args.engine_choice().device == "cpu"


def test_a_gpu_that_is_not_there_is_told(no_driver):
    with pytest.raises(Unavailable, match="finds no GPU"):
        app_args(environment(engines="gpu", device="cuda"))


def test_options_of_engines_are_read_as_json(monkeypatch):
    monkeypatch.setenv("ENGINE_OPTIONS", '{"enhancer": {"grid": false}}')
    choice = environment(engines="gpu").engine_choice()
    assert choice.options[PortName.ENHANCER] == {"grid": False}
