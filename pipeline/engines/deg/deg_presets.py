"""The engines of the DeG networks as presets, and what may be asked of each.

It loads no torch: a request is checked where no engine is. It does not know where weights lie.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipeline.engines.deg.flow_settings import SamplerSettings
from pipeline.errors import InvalidOption
from pipeline.options import FEWEST_GENERATED, GenerateOptions, JobOptions

#: Side of the crop by the longer side of the object's box, by `image_type`. The tight one is what
#: TripoSplat was trained with; how loose Idol's other one is was never published: this is ours.
CROP_FACTORS = {"synthetic": 1.2, "real": 1.4}

#: Fewer guided steps than this are no preset of anybody's: TripoSplat's own range begins here.
LEAST_GUIDED_STEPS = 10


@dataclass(frozen=True)
class DegPreset:
    """One engine.

    Attributes:
        name: what it is chosen by.
        sampler: how the flow network is sampled unless a request says otherwise.
        most_gaussians, least_gaussians: that may be asked for.
        rounds_down: a number between two multiples is rounded down, else to the nearest.
        steps: fewest and most; None: what the sampler allows.
        guided: whether guidance may be asked for: a distilled network has it inside.
        image_types: whether a request may say how the photo is cropped.
    """

    name: str
    sampler: SamplerSettings
    most_gaussians: int
    rounds_down: bool
    steps: tuple[int, int] | None = None
    guided: bool = True
    image_types: bool = True
    least_gaussians: int = FEWEST_GENERATED

    def settings(
        self, steps: int | None, guidance_scale: float | None, shift: float | None
    ) -> SamplerSettings:
        """How the flow network is sampled; what is None is the preset's.

        Raises:
            InvalidOption: it cannot be sampled so; the text names the option.
        """
        asked = {"steps": steps, "guidance_scale": guidance_scale, "shift": shift}
        given = {name: value for name, value in asked.items() if value is not None}
        try:
            settings = replace(self.sampler, **given)  # type: ignore[arg-type]
        except InvalidOption as error:
            raise InvalidOption(f"{self.name}: {error.detail}") from error
        if settings.guided and not self.guided:
            raise InvalidOption(
                f"guidance_scale of the {self.name} engine must be at most 1: its network was "
                f"trained to do without guidance. Got {settings.guidance_scale:g}."
            )
        if self.steps is not None and not self.steps[0] <= settings.steps <= self.steps[1]:
            raise InvalidOption(
                f"steps of the {self.name} engine must be {self.steps[0]} to {self.steps[1]}, got "
                f"{settings.steps}."
            )
        if settings.guided and settings.steps < LEAST_GUIDED_STEPS:
            raise InvalidOption(
                f"steps of the {self.name} engine must be at least {LEAST_GUIDED_STEPS} with "
                f"guidance, got {settings.steps}: ask for more, or for a guidance_scale of 1."
            )
        return settings

    def crop_factor(self, image_type: str | None) -> float:
        """Side of the photo's crop by that of its object. Raises InvalidOption."""
        if image_type is None:
            return CROP_FACTORS["synthetic"]
        if not self.image_types:
            raise InvalidOption(
                f"image_type: the {self.name} engine knows one crop alone: leave it out."
            )
        return CROP_FACTORS[image_type]

    def check_count(self, num_gaussians: int) -> None:
        """Raises InvalidOption for fewer or more splats than the engine makes."""
        least, most = self.least_gaussians, self.most_gaussians
        if not least <= num_gaussians <= most:
            raise InvalidOption(
                f"num_gaussians of the {self.name} engine must be between {least} and {most}, got "
                f"{num_gaussians}."
            )

    def check(self, options: JobOptions) -> tuple[str, ...]:
        """Sentences on what the engine cannot do of what a job asks for (`EngineSpec.check`)."""
        if not isinstance(options, GenerateOptions) or not options.by_generator:
            return ()
        faults = []
        asked = (options.steps, options.guidance_scale, options.shift)
        for check in (
            lambda: self.settings(*asked),
            lambda: self.crop_factor(options.image_type),
            lambda: self.check_count(options.splat_count),
        ):
            try:
                check()
            except InvalidOption as error:
                faults.append(error.detail)
        return tuple(faults)


#: Every preset, by name.
DEG_PRESETS: dict[str, DegPreset] = {
    preset.name: preset
    for preset in (
        DegPreset(
            "triposplat",
            SamplerSettings(20, 3.0, 3.0),
            most_gaussians=262_144,
            rounds_down=False,
            image_types=False,
        ),
        DegPreset(
            "idol", SamplerSettings(50, 3.0, 3.0), most_gaussians=1_048_576, rounds_down=True
        ),
        DegPreset(
            "idol-turbo",
            SamplerSettings(5, 1.0, 3.0),
            most_gaussians=1_048_576,
            rounds_down=True,
            steps=(4, 8),
            guided=False,
        ),
    )
}
