"""Time one DiffEdit edit here and in diffusers, with the same weights: `python -m benchmarks.diffedit_speed`.

diffusers' pipeline runs with its defaults, which are the paper's 50 steps, strength 0.8 and 10 noise maps. Ours runs
with the same settings, with our default preset, and with the same settings while reusing the trajectory and mask of an
earlier edit. The contenders take turns, so that a busy machine slows all of them alike. `--model sd15-random` is a
model of Stable Diffusion 1.5's size. On CPUs it gets 5 steps and 1 map by default: both pipelines then need a tenth of
their evaluations, in the same ratio, while the VAE takes as long as before.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDIMInverseScheduler, StableDiffusionDiffEditPipeline

from benchmarks.contenders import HEADER, Contender, line, race
from benchmarks.options import add_count, add_model, add_size, opened, parser_of
from benchmarks.sd15 import NAME as SD15
from benchmarks.sd15 import side_of
from benchmarks.tasks import Task, recolouring
from semantic_edit.denoisers import StableDiffusionDenoiser
from semantic_edit.evaluation.method import sides_of
from semantic_edit.options import add_dtype
from semantic_edit.pipelines import DiffEditPipeline, DiffEditPipelineOutput
from semantic_edit.pipelines.presets import PRESETS

PAPER, DEFAULT = PRESETS["paper"], PRESETS["default"]
STRENGTH, GUIDANCE = 0.8, 7.5
UPSTREAM, SAME, FEWER, REUSED = (
    "diffusers",
    "same settings",
    "default preset",
    "trajectory and mask reused",
)


@dataclass(frozen=True)
class Settings:
    """The settings of one edit; the strength is always the paper's."""

    num_inference_steps: int = PAPER.num_inference_steps
    num_maps_per_mask: int = PAPER.num_maps_per_mask
    preset: str = "paper"

    @property
    def levels(self) -> int:
        """The number of levels of the inversion."""
        return int(STRENGTH * self.num_inference_steps)

    @property
    def evaluations(self) -> int:
        """The most samples that our pipeline evaluates: two per map, those of the inversion, and two per level to
        decode."""
        inversion = math.ceil(self.levels / PRESETS[self.preset].inversion_stride)
        return 2 * self.num_maps_per_mask + inversion + 2 * self.levels

    @property
    def least_evaluations(self) -> int:
        """The same for colour edits, which the default preset guides only in the noisier half of the steps."""
        stop = StableDiffusionDenoiser.tuning.colour_guidance_stop
        unguided = self.num_inference_steps - math.ceil(stop * self.num_inference_steps)
        return self.evaluations - (min(unguided, self.levels) if self.preset == "default" else 0)

    @property
    def upstream_evaluations(self) -> int:
        """Samples that diffusers' pipeline evaluates: guidance doubles those of the maps and the inversion."""
        return 4 * self.num_maps_per_mask + 4 * self.levels

    @classmethod
    def affordable(cls, model: str | None, device: torch.device) -> Settings:
        """The paper's settings, or a tenth of the evaluations if each takes seconds."""
        return cls(5, 1) if model == SD15 and device.type == "cpu" else cls()

    def by_default(self) -> Settings:
        """The default preset's settings, reduced in the same proportion as these are from the paper's."""
        steps = DEFAULT.num_inference_steps / PAPER.num_inference_steps
        maps = DEFAULT.num_maps_per_mask / PAPER.num_maps_per_mask
        return Settings(
            max(2, round(steps * self.num_inference_steps)),
            max(1, round(maps * self.num_maps_per_mask)),
            "default",
        )


def edit_with_diffusers(pipe: StableDiffusionDiffEditPipeline, task: Task, settings: Settings) -> object:
    """Edit by the three calls of diffusers' own example."""
    generator = torch.Generator("cpu").manual_seed(0)
    mask = pipe.generate_mask(
        image=task.image,
        source_prompt=task.source_prompt,
        target_prompt=task.prompt,
        num_inference_steps=settings.num_inference_steps,
        num_maps_per_mask=settings.num_maps_per_mask,
        generator=generator,
    )
    latents = pipe.invert(
        prompt=task.source_prompt,
        image=task.image,
        num_inference_steps=settings.num_inference_steps,
        inpaint_strength=STRENGTH,
        generator=generator,
    ).latents
    return pipe(
        prompt=task.prompt,
        mask_image=mask,
        image_latents=latents,
        negative_prompt=task.source_prompt,
        num_inference_steps=settings.num_inference_steps,
        inpaint_strength=STRENGTH,
        guidance_scale=GUIDANCE,
        generator=generator,
    )


def edit_here(
    pipe: DiffEditPipeline, task: Task, settings: Settings, **reused: Any
) -> DiffEditPipelineOutput:
    """One call."""
    output = pipe(
        image=task.image,
        source_prompt=task.source_prompt,
        prompt=task.prompt,
        num_inference_steps=settings.num_inference_steps,
        num_maps_per_mask=settings.num_maps_per_mask,
        preset=settings.preset,
        inpaint_strength=STRENGTH,
        guidance_scale=GUIDANCE,
        generator=torch.Generator("cpu").manual_seed(0),
        focus=False,
        **sides_of(task.image),
        **reused,
    )
    assert isinstance(output, DiffEditPipelineOutput)
    return output


def diffusers_pipeline(pipe: DiffEditPipeline) -> StableDiffusionDiffEditPipeline:
    """diffusers' pipeline with the same modules, without progress bars."""
    upstream = StableDiffusionDiffEditPipeline(
        vae=pipe.vae,
        text_encoder=pipe.text_encoder,
        tokenizer=pipe.tokenizer,
        unet=pipe.unet,
        scheduler=pipe.scheduler,
        inverse_scheduler=DDIMInverseScheduler.from_config(pipe.scheduler.config),
        safety_checker=pipe.safety_checker,
        feature_extractor=pipe.feature_extractor,
        requires_safety_checker=False,
    )
    upstream.set_progress_bar_config(disable=True)
    return upstream


def contenders(pipe: DiffEditPipeline, task: Task, settings: Settings) -> dict[str, Contender]:
    """All contenders, in this order: the last one reuses the results of the edit with the same settings."""
    upstream = diffusers_pipeline(pipe)
    left: dict[str, Any] = {}

    def edit() -> None:
        done = edit_here(pipe, task, settings)
        left.update(trajectory=done.trajectory, mask_image=done.pixel_mask)

    ways: dict[str, Callable[[], object]] = {
        UPSTREAM: lambda: edit_with_diffusers(upstream, task, settings),
        SAME: edit,
        FEWER: lambda: edit_here(pipe, task, settings.by_default()),
        REUSED: lambda: edit_here(pipe, task, settings, **left),
    }
    return {name: Contender(run) for name, run in ways.items()}


def lines(pipe: DiffEditPipeline, task: Task, settings: Settings, repeats: int) -> list[str]:
    """The lines of the table under `HEADER`.

    Raises:
        AssertionError: If an edit skipped evaluations, as it does with an empty mask.
    """
    racing = contenders(pipe, task, settings)
    race(racing, pipe.unet, repeats)
    expected = {
        UPSTREAM: settings.upstream_evaluations,
        SAME: settings.evaluations,
        REUSED: 2 * settings.levels,
    }
    made = {name: one.evaluations for name, one in racing.items()}
    fewer = settings.by_default()
    expected[FEWER] = min(max(made[FEWER], fewer.least_evaluations), fewer.evaluations)
    assert made == expected, f"the edits evaluated {made} samples, where {expected} were expected"
    side = f"{task.image.width} px"
    own = f"S = {settings.num_inference_steps}, n = {settings.num_maps_per_mask}"
    labels = {
        SAME: f"{SAME}, {own}",
        FEWER: f"{FEWER}, S = {fewer.num_inference_steps}, n = {fewer.num_maps_per_mask} against {own}",
        REUSED: f"{REUSED}, {own}",
    }
    return [
        line(f"DiffEdit against diffusers, {side}: {label}", racing[name], racing[UPSTREAM])
        for name, label in labels.items()
    ]


def main() -> None:
    parser = parser_of(__doc__, repeats=5)
    add_model(parser)
    add_dtype(parser)
    add_size(parser)
    papers = "the paper's, but fewer if an edit would take minutes"
    add_count(parser, "--steps", None, "number of steps", papers)
    add_count(parser, "--maps", None, "number of noise maps", papers)
    options = parser.parse_args()
    pipe = opened(DiffEditPipeline, options, options.dtype)
    settings = Settings.affordable(options.model, pipe.device)
    settings = Settings(
        options.steps or settings.num_inference_steps, options.maps or settings.num_maps_per_mask
    )
    task = recolouring(options.size or side_of(options.model))
    print(HEADER)
    print("\n".join(lines(pipe, task, settings, options.repeats)))
    print(f"\n{pipe.device}, {pipe.unet.dtype}, {torch.get_num_threads()} threads, ", end="")
    print(f"{options.repeats} rounds in turn; medians (ranges)")


if __name__ == "__main__":
    main()
