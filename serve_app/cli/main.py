"""The `glimpse3d` command: run in one process, replay, serve, demo, export, render.

It turns arguments and environment into calls and errors into one sentence and an exit code.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from pipeline.options import ExportOptions, GenerateOptions, Preset
from pipeline.seeds import random_seed
from serve_app.cli.console import errors_as_sentences
from serve_app.cli.doctor.doctor_command import doctor
from serve_app.cli.plain_output import accept_every_character
from serve_app.cli.supabase_command import supabase_app
from serve_app.cli.weights_command import weights_app

app = typer.Typer(
    help="One photo to a refined 3D Gaussian splat.", no_args_is_help=True, add_completion=False
)
app.add_typer(supabase_app, name="supabase")
app.add_typer(weights_app, name="weights")
app.command()(doctor)
console = Console()


@app.callback()
def _prepare() -> None:
    accept_every_character()


PhotoArgument = Annotated[Path, typer.Argument(help="The photo.", exists=True, dir_okay=False)]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")]
PhotosOption = Annotated[
    list[str] | None,
    typer.Option(
        "--photo",
        help="A further photo of the object, FILE, FILE:SIDE (front, left, right, back, top), "
        "FILE:AZIMUTH or FILE:AZIMUTH,ELEVATION in degrees; without, its direction is looked for. "
        "May be given seven times.",
    ),
]
MaskOption = Annotated[
    Path | None,
    typer.Option(
        help="A picture of the photo's size that is white where the object is, or has alpha that "
        "is opaque there. Default: the background is removed, or the photo has alpha.",
        exists=True,
        dir_okay=False,
    ),
]
SeedOption = Annotated[int | None, typer.Option(help="Repeat a run; random when absent.")]


@app.command()
def run(
    photo: PhotoArgument,
    out: OutOption = Path("out"),
    preset: Annotated[Preset, typer.Option(help="How much work.")] = Preset.STANDARD,
    elevation_deg: Annotated[
        float | None,
        typer.Option(
            help="How far above the horizon the photo was taken, -10..60. Default: the view "
            "engine estimates it from the photo; one that cannot takes 30."
        ),
    ] = None,
    iterations: Annotated[int, typer.Option(help="Refinement iterations; 0: none.")] = 3,
    seed: SeedOption = None,
    further: PhotosOption = None,
    mask: MaskOption = None,
    candidates: Annotated[
        int, typer.Option(help="Models to make, 1..8, with the seed and the next; the best stays.")
    ] = 1,
) -> None:
    """Photo to refined splats in one process, without a service."""
    from serve_app.cli.folder_photos import parse_photo
    from serve_app.cli.run import run_in_process

    with errors_as_sentences(console):
        options = GenerateOptions(
            seed=random_seed() if seed is None else seed,
            preset=preset.value,
            elevation_deg=elevation_deg,
            candidates=candidates,
        )
        others = [parse_photo(text) for text in further or ()]
        asyncio.run(run_in_process(photo, out, console, options, iterations, others, mask))


@app.command()
def replay(
    manifest: Annotated[
        Path, typer.Argument(help="The manifest.json of a project.", exists=True, dir_okay=False)
    ],
    photo: Annotated[
        Path | None,
        typer.Option(help="The project's stored photo; default: original.png beside it."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Keep the new files in this folder.")
    ] = None,
) -> None:
    """Run a project's steps again and compare every artefact, bit for bit.

    Exit code 0: identical. 3: something differs. 1: it could not be run.
    """
    from serve_app.cli.replay import DIFFERS_EXIT_CODE, replay_manifest

    with errors_as_sentences(console):
        identical = asyncio.run(replay_manifest(manifest, console, photo=photo, out=out))
    if not identical:
        raise typer.Exit(DIFFERS_EXIT_CODE)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Default: API_HOST or 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Default: API_PORT or 8000.")] = None,
    dashboard: Annotated[bool, typer.Option(help="Ray dashboard on loopback.")] = True,
) -> None:
    """Run the service on this machine until Ctrl-C."""
    from serve_app.cli.this_machine import app_args
    from serve_app.server import running_service
    from serve_app.settings import Environment

    with errors_as_sentences(console):
        env = Environment()
        args = app_args(env)
        # Who listens on a name is called by it.
        args = args.model_copy(
            update={"allowed_hosts": (*args.allowed_hosts, host or env.api_host)}
        )
        console.print("Starting ...")
        with running_service(
            args,
            host=host or env.api_host,
            port=env.api_port if port is None else port,
            dashboard=dashboard,
            quiet=not env.debug,
        ) as service:
            if service.lacks:
                console.print(f"[yellow]Not ready[/] at {service.url}; it goes on looking for:")
                for name, lack in service.lacks.items():
                    console.print(f"  {name}: {escape(lack)}", soft_wrap=True)
            else:
                console.print(f"Ready after {service.started_in_s:.1f} s at {service.url}")
            console.print(f"API documentation at {service.url}/docs")
            if service.dashboard_url:
                console.print(
                    f"Ray dashboard at {service.dashboard_url}, its token in ~/.ray/auth_token"
                )
            data = args.supabase_url or args.asset_dir.resolve()
            console.print(f"Data in {data}. Ctrl-C stops the service.")
            _wait_for_signal()
            console.print("Stopping ...")


@app.command()
def plan(
    gpus: Annotated[int, typer.Option(help="How many, all alike.")] = 1,
    memory: Annotated[float, typer.Option(help="Of one GPU, GiB.")] = 24.0,
    rounds: Annotated[int, typer.Option(help="Refinement rounds of a project.")] = 3,
    engines: Annotated[str, typer.Option(help="A set of them, as ENGINES names it.")] = "gpu",
    times: Annotated[
        list[Path] | None,
        typer.Option(
            help="Seconds of each stage, from `python -m bench.gpu --json FILE`; may be repeated."
        ),
    ] = None,
    as_yaml: Annotated[
        bool, typer.Option("--yaml", help="Print what belongs into serve_config.yaml.")
    ] = False,
) -> None:
    """Which deployments fit on which GPUs, and how many projects an hour they finish."""
    import yaml

    from pipeline.engines.registry import PRESETS, EngineChoice
    from serve_app.cli.plan import make_plan, plan_table, read_times

    with errors_as_sentences(console):
        measured = read_times(*times) if times else None
        EngineChoice.preset(engines)
        made = make_plan(gpus, memory, engines=PRESETS[engines], times=measured, rounds=rounds)
        if as_yaml:
            text = yaml.safe_dump({"deployments": made.deployments()}, sort_keys=False)
            console.print(text, highlight=False, markup=False, soft_wrap=True)
            return
        console.print(plan_table(made))
        console.print(
            "Weights are counted, room to work in is a budget; each share is enforced.",
            soft_wrap=True,
        )
        if any(placed.host == "Generator" for placed in made.placements):
            console.print(
                "The generator's room is derived from the sizes of its tensors, not measured: "
                "`python -m bench.gpu deg` compares.",
                soft_wrap=True,
            )
        if measured is None or made.projects_per_hour is None:
            console.print(
                "Throughput: not known. `python -m bench.gpu --json times.json` measures the "
                "stages on a GPU, and `--times times.json` reckons with them.",
                soft_wrap=True,
            )
        else:
            console.print(
                f"Throughput: {made.projects_per_hour:.0f} projects an hour with {rounds} "
                f"refinement rounds each, limited by {made.bottleneck}; from stages measured on "
                f"{escape(measured.device)}.",
                soft_wrap=True,
            )


@app.command("check-config")
def check_config(
    config: Annotated[
        Path, typer.Argument(help="A file for `serve deploy`.", exists=True, dir_okay=False)
    ] = Path("serve_config.yaml"),
    gpus: Annotated[int | None, typer.Option(help="Compare the shares with so many GPUs.")] = None,
    memory: Annotated[
        float | None, typer.Option(help="Compare them with GPUs of so many GiB.")
    ] = None,
    nodes: Annotated[
        int | None, typer.Option(help="Whether a cluster of so many nodes reaches the database.")
    ] = None,
) -> None:
    """Say what is wrong with a serve_config.yaml: Ray Serve takes misspelt keys in silence.

    Exit code 0: nothing. 3: something is.
    """
    from serve_app.cli.check_config import config_faults, read_config

    with errors_as_sentences(console):
        faults = config_faults(read_config(config), gpus=gpus, memory_gib=memory, nodes=nodes)
    for fault in faults:
        console.print(f"[red]✗[/] {escape(fault)}", soft_wrap=True)
    if faults:
        raise typer.Exit(3)
    console.print(f"[green]✓[/] {escape(str(config))} can be deployed.", soft_wrap=True)


def _wait_for_signal() -> None:
    """Return on SIGINT or SIGTERM."""
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    while not stopped.is_set():
        time.sleep(0.2)


@app.command()
def demo(
    image: Annotated[
        Path | None, typer.Option(help="Photo; default: a cup of coffee from scikit-image.")
    ] = None,
    out: OutOption = Path("out"),
    iterations: Annotated[int, typer.Option(help="Refinement iterations.", min=1)] = 3,
    seed: Annotated[int, typer.Option(help="Repeat a run.")] = 0,
    further: PhotosOption = None,
    mask: MaskOption = None,
) -> None:
    """Start the service, send it a photo, fetch the model, show what happened, stop it."""
    from serve_app.cli.demo import default_photo, run_demo
    from serve_app.cli.folder_photos import parse_photo

    with errors_as_sentences(console):
        photo = image or default_photo()
        if not photo.is_file():
            console.print(f"[red]There is no file {escape(str(photo))}.[/]")
            raise typer.Exit(2)
        others = [parse_photo(text) for text in further or ()]
        run_demo(photo, out, console, seed=seed, iterations=iterations, further=others, mask=mask)


ModelArgument = Annotated[
    Path,
    typer.Argument(
        help="Gaussian splats: a .ply, .splat, .spz, .sog, .ksplat or .splat.glb file, or "
        "the folder of a .sog."
    ),
]

StrictOption = Annotated[
    bool,
    typer.Option("--strict", help="Refuse a damaged file instead of leaving out what is damaged."),
]


@app.command()
def export(
    model: ModelArgument,
    target: Annotated[
        Path,
        typer.Argument(
            help="The file to write: .ply, .splat, .spz, .splat.glb (splats), .glb, .obj.zip, "
            ".usdz (a textured mesh), .stl, .3mf (a mesh for printers)."
        ),
    ],
    format_name: Annotated[
        str | None, typer.Option("--format", help="Default: what the file's name asks for.")
    ] = None,
    optimize: Annotated[
        bool, typer.Option("--optimize", help="Leave out and round off what nobody sees.")
    ] = False,
    face_limit: Annotated[int, typer.Option(help="Most faces of a mesh.")] = 10_000,
    texture_size: Annotated[int, typer.Option(help="Pixels along each side of a texture.")] = 1024,
    unlit: Annotated[
        bool, typer.Option("--unlit", help="Show a mesh's colours as they are, whatever lights.")
    ] = False,
    height_m: Annotated[
        float | None,
        typer.Option(
            help="Make the model so many metres high, standing on the ground. Default: as it is; "
            ".stl and .3mf: 100 mm along the longest side."
        ),
    ] = None,
    strict: StrictOption = False,
) -> None:
    """Convert a model file to another format, without a service."""
    from serve_app.cli.console import stage_bars
    from serve_app.cli.model_files import export_file, format_of

    with errors_as_sentences(console):
        options = ExportOptions(
            format_name or format_of(target),
            optimize,
            face_limit,
            texture_size,
            unlit=unlit,
            height_m=height_m,
        )
        with stage_bars(console) as bars:
            exported = export_file(model, target, options, bars, strict=strict)
        console.print(f"{escape(str(target))}: {_listed(exported.contents)}", soft_wrap=True)
        if optimize:
            console.print(f"Saved: {_listed(exported.saved)}")
        _print_notes(exported.notes)


def _print_notes(notes: Iterable[str]) -> None:
    from serve_app.cli.console import print_notes

    print_notes(console, notes)


def _listed(numbers: Mapping[str, int]) -> str:
    words = {"texture_size": "pixels of texture along each side"}
    return ", ".join(f"{value:,} {words.get(name, name)}" for name, value in numbers.items())


@app.command()
def render(
    model: ModelArgument,
    turntable: Annotated[Path | None, typer.Option(help="Film of one turn, .mp4.")] = None,
    thumbnail: Annotated[Path | None, typer.Option(help="Picture from the front, .png.")] = None,
    frames: Annotated[int, typer.Option(help="Of the film, 24 a second.")] = 60,
    size: Annotated[int, typer.Option(help="Pixels along each side.")] = 512,
    strict: StrictOption = False,
) -> None:
    """Draw a model file, without a service."""
    from serve_app.cli.console import stage_bars
    from serve_app.cli.model_files import render_file

    wanted = {"turntable": turntable, "thumbnail": thumbnail}
    pictures = {name: target for name, target in wanted.items() if target is not None}
    if not pictures:
        console.print("[red]Nothing to draw:[/] give --turntable out.mp4 or --thumbnail out.png.")
        raise typer.Exit(2)
    with errors_as_sentences(console):
        with stage_bars(console) as bars:
            notes = render_file(model, pictures, bars, frames=frames, size=size, strict=strict)
        for target in pictures.values():
            megabytes = target.stat().st_size / 1e6
            console.print(f"{escape(str(target))}: {megabytes:.2f} MB", soft_wrap=True)
        _print_notes(notes)


if __name__ == "__main__":
    app()
