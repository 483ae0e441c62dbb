"""The prepared script for a GPU, with small networks on the CPU: every stage runs and is kept."""

import json

import pytest

from bench import gpu_deg
from bench.gpu import main
from bench.gpu_deg import DegSize, measure
from pipeline.device import Device
from pipeline.engines.deg.deg_config import DegConfig
from pipeline.errors import Unavailable


def test_every_stage_is_measured_and_written(tmp_path, capsys):
    path = tmp_path / "deg.json"
    main(["deg", "--tiny", "--device", "cpu", "--json", str(path)])
    told = json.loads(path.read_text())
    assert told["tiny"]
    assert told["left_out"] == []
    assert told["kernels"] == {"fp32": "plain"}
    names = " ".join(row["name"] for row in told["rows"])
    for words in (
        "fp32: one call",
        "as one token",
        "a guided step in its plain form",
        "saved against the plain form",
        "encoders: a photo",
        "decoders: 640 splats",
        "TripoSplat: photo to 320 splats, 3 guided steps",
        "Idol Turbo: photo to 320 splats, 2 steps",
        "Idol: photo to 320 splats, 4 guided steps",
    ):
        assert words in names
    assert told["stages"]["generate"] > 0
    assert all(row["value"] > 0 for row in told["rows"])
    assert all(row["budget"] is None for row in told["rows"]), "goals are of full size"
    assert "attention in fp32: plain" in capsys.readouterr().out


def test_what_fails_is_told_and_the_rest_goes_on(tmp_path, monkeypatch):
    def refuse(*_):
        raise Unavailable("There is no transformers.")

    monkeypatch.setattr(gpu_deg, "encode_photo", refuse)
    found = measure(Device.choose("cpu"), DegSize.small(), limit_s=60, path=tmp_path / "a.json")
    assert found.left_out == ["encoders: There is no transformers."]
    assert any(row.name == "decoders: 320 splats" for row in found.rows)
    assert json.loads((tmp_path / "a.json").read_text())["left_out"] == found.left_out


def test_nothing_is_begun_that_the_limit_does_not_allow():
    found = measure(Device.choose("cpu"), DegSize.small(), limit_s=0)
    assert found.rows == []
    assert found.left_out[0].startswith("flow network, fp32: it would take")


def test_by_itself_it_is_as_large_as_what_is_released():
    assert DegSize().config == DegConfig.released()
    assert DegSize().steps == (20, 5, 50)


@pytest.mark.parametrize("words", [["dog"], ["deg", "--device", "abacus"]])
def test_what_does_not_exist_is_refused(words, capsys):
    with pytest.raises(SystemExit):
        main(words)
    assert "invalid choice" in capsys.readouterr().err
