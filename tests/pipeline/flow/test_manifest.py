"""A manifest survives JSON, names what is wrong with it, and says what differs and why."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from pipeline.engines.background.background_specs import U2NETP
from pipeline.errors import InvalidInput
from pipeline.flow import machine
from pipeline.flow import manifest as manifest_module
from pipeline.flow.manifest import (
    Difference,
    Manifest,
    State,
    Step,
    StepKind,
    Subject,
    compare,
    content_hash,
    environment,
    is_identical,
)
from pipeline.flow.stored_photos import PhotoRecord, PlacedPhoto
from pipeline.types import CameraEstimate
from pipeline.weights.catalogue import Carried, Catalogue

GENERATED = Step(
    StepKind.GENERATE,
    {"seed": 1, "preset": "draft", "steps": None},
    {"views": "relief", "splats": "cpu-rasteriser"},
    {"views/00.png": "sha256:00", "models/v0.ply": "sha256:a0"},
    CameraEstimate(17.5, None, 1.1, 0.125),
    (PlacedPhoto("original.png"), PlacedPhoto("photos/1/original.png", "back")),
)
REFINED = Step(
    StepKind.REFINE,
    {"seed": 1, "views_to_refine": [0, 1]},
    {"enhancer": "unsharp"},
    {"models/v1.ply": "sha256:a1"},
)
MANIFEST = Manifest(
    project_id="cup",
    created_at="2026-11-22T12:00:00+00:00",
    photo=PhotoRecord("original.png", "sha256:f0", "sha256:f1", True),
    environment={"product": "1", "packages": {"torch": "2", "numpy": "2"}},
    steps=(GENERATED, REFINED),
    photos=(PhotoRecord("photos/1/original.png", "sha256:f2", "sha256:f3", True),),
)


def not_equal(differences: list[Difference]) -> list[tuple[str, str, str]]:
    return [
        (line.subject.value, line.name, line.state.value)
        for line in differences
        if line.state is not State.EQUAL
    ]


def test_a_content_hash_names_its_algorithm() -> None:
    assert content_hash(b"") == (
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )


def test_a_manifest_survives_json() -> None:
    text = json.dumps(MANIFEST.to_json())
    assert Manifest.from_json(json.loads(text)) == MANIFEST
    assert list(json.loads(text)["steps"][0]["artefacts"]) == ["models/v0.ply", "views/00.png"]
    more = {**MANIFEST.to_json(), "colour": "red"}
    assert Manifest.from_json(more) == MANIFEST, "fields of a later release do no harm"
    del more["steps"][0]["camera"]
    del more["steps"][0]["photos"]
    del more["photos"]
    earlier = Manifest.from_json(more)
    assert earlier.steps[0].camera is None, "of an earlier release"
    assert (earlier.photos, earlier.steps[0].photos) == ((), ())


def test_photos_are_compared_by_their_hashes_and_directions() -> None:
    (further,) = MANIFEST.photos
    other = replace(MANIFEST, photos=(replace(further, sha256="sha256:99"),))
    assert not_equal(compare(MANIFEST, other)) == [("artefact", "photos/1/original.png", "differs")]
    turned = (GENERATED.photos[0], replace(GENERATED.photos[1], side="left"))
    other = replace(MANIFEST, steps=(replace(GENERATED, photos=turned), REFINED))
    assert not_equal(compare(MANIFEST, other)) == [("photo", "1 side", "differs")]
    assert is_identical(compare(MANIFEST, other))
    alone = replace(MANIFEST, photos=())
    assert not_equal(compare(MANIFEST, alone)) == [
        ("artefact", "photos/1/original.png", "missing"),
        ("artefact", "photos/1/processed.png", "missing"),
    ]


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("version", 2, "version 2; this release reads 1"),
        ("version", True, "version is no whole number"),
        ("version", None, "version is missing"),
        ("project_id", None, "project_id is missing"),
        ("photo", [], "photo is no JSON object"),
        ("photo.sha256", None, "photo.sha256 is missing"),
        ("photo.remove_background", "yes", "photo.remove_background is no truth value"),
        ("environment", None, "environment is missing"),
        ("steps", {}, "steps is no list"),
        ("steps.1", "refine", "steps[1] is no JSON object"),
        ("steps.1.kind", "paint", "steps[1].kind 'paint' is unknown"),
        ("steps.0.options", None, "steps[0].options is missing"),
        ("steps.0.camera.focal", "long", "steps[0].camera.focal is no number"),
        (
            "steps.0.artefacts",
            {"models/v0.ply": 3},
            "steps[0].artefacts.models/v0.ply is no string",
        ),
    ],
)
def test_a_damaged_manifest_is_refused_and_the_field_named(
    path: str, value: object, told: str
) -> None:
    """None takes the field away."""
    values = json.loads(json.dumps(MANIFEST.to_json()))
    *parents, last = path.split(".")
    owner = values
    for name in parents:
        owner = owner[int(name)] if isinstance(owner, list) else owner[name]
    if isinstance(owner, list):
        owner[int(last)] = value
    elif value is None:
        del owner[last]
    else:
        owner[last] = value
    with pytest.raises(InvalidInput, match=re.escape(told)):
        Manifest.from_json(values)


@pytest.mark.parametrize("values", [None, [], "manifest", 1])
def test_what_is_no_object_is_no_manifest(values: object) -> None:
    with pytest.raises(InvalidInput, match="the whole is no JSON object"):
        Manifest.from_json(values)


def test_a_manifest_equals_itself_whenever_and_wherever_it_was_made() -> None:
    other = replace(MANIFEST, project_id="mug", created_at="2027-01-01T00:00:00+00:00")
    differences = compare(MANIFEST, other)
    assert len(differences) == 7, "four of the photos, three of the steps"
    assert not_equal(differences) == []
    assert is_identical(differences)


def test_every_artefact_has_a_state_and_every_reason_is_named() -> None:
    generated = replace(
        GENERATED,
        options={"seed": 2, "preset": "draft"},
        engines={"views": "relief", "splats": "gsplat"},
        artefacts={"views/00.png": "sha256:01", "views/01.png": "sha256:02"},
        camera=CameraEstimate(17.5, 6.0, 1.2, 0.125),
    )
    found = replace(
        MANIFEST,
        photo=replace(MANIFEST.photo, processed_sha256="sha256:f2"),
        environment={"product": "1", "packages": {"torch": "3"}, "zlib": "1"},
        steps=(generated, REFINED),
    )
    differences = compare(MANIFEST, found)
    assert not_equal(differences) == [
        ("artefact", "processed.png", "differs"),
        ("artefact", "models/v0.ply", "missing"),
        ("artefact", "views/00.png", "differs"),
        ("artefact", "views/01.png", "extra"),
        ("option", "seed", "differs"),
        ("option", "steps", "missing"),
        ("engine", "splats", "differs"),
        ("camera", "elevation_error_deg", "differs"),
        ("camera", "focal", "differs"),
        ("environment", "packages.numpy", "missing"),
        ("environment", "packages.torch", "differs"),
        ("environment", "zlib", "extra"),
    ]
    assert not is_identical(differences)
    (torch,) = [line for line in differences if line.name == "packages.torch"]
    assert (torch.expected, torch.found, torch.step) == ("2", "3", None)
    (view,) = [line for line in differences if line.name == "views/00.png"]
    assert (view.expected, view.found, view.step) == ("sha256:00", "sha256:01", 0)


def test_another_environment_alone_is_no_other_result() -> None:
    differences = compare(MANIFEST, replace(MANIFEST, environment={}))
    assert {line.subject for line in differences if line.state is not State.EQUAL} == {
        Subject.ENVIRONMENT
    }
    assert is_identical(differences)


def test_a_step_more_or_less_is_told() -> None:
    short = replace(MANIFEST, steps=(GENERATED,))
    assert ("step", "kind", "missing") in not_equal(compare(MANIFEST, short))
    assert ("artefact", "models/v1.ply", "missing") in not_equal(compare(MANIFEST, short))
    assert ("step", "kind", "extra") in not_equal(compare(short, MANIFEST))
    swapped = replace(MANIFEST, steps=(REFINED, GENERATED))
    assert ("step", "kind", "differs") in not_equal(compare(MANIFEST, swapped))
    assert not is_identical(compare(MANIFEST, swapped))


def test_the_environment_knows_versions_weights_sources_and_the_machine(tmp_path: Path) -> None:
    found = environment(tmp_path)
    assert found == json.loads(json.dumps(found))
    assert found["product"] != "unknown"
    assert {"torch", "numpy", "scipy", "opencv-python-headless", "pillow"} <= set(found["packages"])
    assert found["weights"]["u2netp"] == f"sha256:{U2NETP.files[0].sha256}"
    for digest in found["sources"].values():
        assert re.fullmatch("sha256:[0-9a-f]{64}", digest)
        assert digest != content_hash(b""), "there are sources"
    assert found["processor"]["name"]
    assert found == environment(tmp_path), "it is the same when asked again"


def test_what_is_not_there_is_not_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = replace(U2NETP, source=Carried("Ask."))
    monkeypatch.setattr(manifest_module, "weights_catalogue", lambda: Catalogue((nowhere,)))
    monkeypatch.setattr(manifest_module, "_packages", lambda: ("numpy", "no-such-package"))
    found = environment(tmp_path)
    assert found["weights"] == {}
    assert set(found["packages"]) == {"numpy"}
    (tmp_path / nowhere.files[0].path).write_bytes(b"damaged")
    assert environment(tmp_path)["weights"] == {}, "no engine would take it"


def test_a_changed_source_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest_module, "_PIPELINE", tmp_path)
    (tmp_path / "native").mkdir()
    (tmp_path / "native" / "splats.cpp").write_text("int one = 1;")
    (tmp_path / "generate.py").write_text("ONE = 1")
    before = environment()["sources"]
    (tmp_path / "generate.py").write_text("ONE = 2")
    changed = environment()["sources"]
    assert changed["pipeline"] != before["pipeline"]
    assert changed["native"] == before["native"]
    (tmp_path / "native" / "splats.cpp").rename(tmp_path / "native" / "other.cpp")
    assert environment()["sources"]["native"] != before["native"], "a name is content, too"


def nvidia(folder: Path, *models: str) -> Path:
    """What the driver shows of itself, with these cards."""
    folder.mkdir()
    (folder / "version").write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.124.06  Release Build\n"
        "GCC version:  gcc version 12.3.0\n"
    )
    for i, model in enumerate(models):
        card = folder / "gpus" / f"0000:0{i}:00.0"
        card.mkdir(parents=True)
        (card / "information").write_text(f"Model: \t\t {model}\nIRQ:   \t\t 34\n")
    return folder


def test_the_environment_names_cards_driver_and_cuda(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_DRIVER", tmp_path / "none")
    assert environment()["gpu"] == {}
    monkeypatch.setattr(machine, "_DRIVER", nvidia(tmp_path / "driver", "NVIDIA L4", "NVIDIA L40"))
    assert environment()["gpu"] == {
        "cards": "NVIDIA L4, NVIDIA L40",
        "driver": "570.124.06",
        "cuda": torch.version.cuda or "none",
    }


def test_cuda_is_read_as_torch_writes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "torch"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "version.py").write_text(
        "debug = False\ncuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n"
    )
    spec = SimpleNamespace(origin=str(package / "__init__.py"))
    monkeypatch.setattr(machine.importlib.util, "find_spec", lambda _name: spec)
    monkeypatch.setattr(machine, "_DRIVER", nvidia(tmp_path / "driver"))
    assert machine.gpu()["cuda"] == "13.0"


def test_every_package_that_can_change_an_artefact_is_named() -> None:
    """What the rooms that make artefacts import. Exports, films, the reading of others' files and
    the decoding of a photo, which is kept as it was decoded, are not among them."""
    apart = {"fast_simplification", "httpx2", "huggingface_hub", "imageio_ffmpeg", "pydantic"}
    apart |= {"manifold3d", "pi_heif", "pxr", "skimage", "trimesh", "xatlas", "zstandard"}
    imported = {
        name.partition(".")[0]
        for path in (Path(manifest_module.__file__).parents[1]).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    imported -= apart | set(sys.stdlib_module_names) | {"pipeline"}
    assert {"torch", "gsplat", "diffusers", "onnxruntime"} <= imported
    carried_by = {"cv2": "opencv-python-headless", "PIL": "pillow"}
    assert {carried_by.get(name, name) for name in imported} <= set(manifest_module._packages())


def test_asking_for_the_environment_loads_no_engine() -> None:
    code = (
        "import sys; from pipeline.flow.manifest import environment; environment(None); "
        "print(sorted({'torch', 'cv2', 'onnxruntime', 'rembg'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
