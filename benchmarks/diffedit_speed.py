"""Time one DiffEdit edit here and in diffusers, on the same weights: `python -m benchmarks.diffedit_speed`.

Against diffusers' pipeline at its defaults, which are the paper's 50 steps, strength 0.8 and 10 noise maps: ours at the
same settings, by our default preset, and at the same with what an earlier edit of the picture left. The
contenders take turns, so that a busy machine slows all of them alike. `--model sd15-random` is a model of Stable
Diffusion 1.5's size. On CPUs it is given 5 steps and 1 map unless told otherwise: both pipelines then need a tenth of
their evaluations, in the same ratio, while the VAE takes as long as ever.
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
    """Of one edit; the strength is always the paper's."""

    num_inference_steps: int = PAPER.num_inference_steps
    num_maps_per_mask: int = PAPER.num_maps_per_mask
    preset: str = "paper"

    @property
    def levels(self) -> int:
        """Of the inversion."""
        return int(STRENGTH * self.num_inference_steps)

    @property
    def evaluations(self) -> int:
        """Samples that our pipeline evaluates at most: two a map, one a level on the way up and two on the way down."""
        return 2 * self.num_maps_per_mask + 3 * self.levels

    @property
    def least_evaluations(self) -> int:
        """The same for colour edits, which the default preset guides in the noisier half of the steps alone."""
        stop = StableDiffusionDenoiser.tuning.colour_guidance_stop
        unguided = self.num_inference_steps - math.ceil(stop * self.num_inference_steps)
        return self.evaluations - (min(unguided, self.levels) if self.preset == "default" else 0)

    @property
    def upstream_evaluations(self) -> int:
        """Samples that diffusers' evaluates: guidance doubles the maps' and the inversion's."""
        return 4 * self.num_maps_per_mask + 4 * self.levels

    @classmethod
    def affordable(cls, model: str | None, device: torch.device) -> Settings:
        """The paper's, or a tenth of its evaluations where each takes seconds."""
        return cls(5, 1) if model == SD15 and device.type == "cpu" else cls()

    def by_default(self) -> Settings:
        """The default preset's, where these stand for the paper's; as much fewer where these are fewer."""
        steps = DEFAULT.num_inference_steps / PAPER.num_inference_steps
        maps = DEFAULT.num_maps_per_mask / PAPER.num_maps_per_mask
        return Settings(
            max(2, round(steps * self.num_inference_steps)),
            max(1, round(maps * self.num_maps_per_mask)),
            "default",
        )


def edit_with_diffusers(pipe: StableDiffusionDiffEditPipeline, task: Task, settings: Settings) -> object:
    """The three calls of diffusers' own example."""
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
    """diffusers' pipeline around the very same modules; silent."""
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
    """Every way to edit, in this order: the last one reuses what the edit at the same settings left."""
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
    """Of a table under `HEADER`; an edit that skipped evaluations, as one with an empty mask does, is an error."""
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
    papers = "the paper's, fewer where they take minutes"
    add_count(parser, "--steps", None, "of the schedule", papers)
    add_count(parser, "--maps", None, "noises of the mask", papers)
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
