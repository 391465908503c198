"""Time one DiffEdit edit here and in diffusers, on the same weights: `python -m benchmarks.diffedit_speed`.

Both run at the paper's settings (50 steps, strength 0.8, 10 noise maps) and at their own defaults for the rest. The
contenders take turns, so that a busy machine slows all of them alike.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import DDIMInverseScheduler, StableDiffusionDiffEditPipeline
from PIL import Image

from semantic_edit.loading import load_pipeline, quiet_loading
from semantic_edit.pipelines import DiffEditPipeline, DiffEditPipelineOutput
from semantic_edit.still_life.scenes import sample_scene

STEPS, STRENGTH, MAPS, GUIDANCE = 50, 0.8, 10, 7.5


@dataclass
class Contender:
    """One way to make the edit, and what its runs took."""

    name: str
    edit: Callable[[], object]
    seconds: list[float] = field(default_factory=list)
    evaluations: int = 0

    def __str__(self) -> str:
        middle, low, high = statistics.median(self.seconds), min(self.seconds), max(self.seconds)
        return f"| {self.name} | {self.evaluations} | {middle:.2f} | {low:.2f} to {high:.2f} |"


@dataclass(frozen=True)
class Task:
    """What both are asked to do."""

    image: Image.Image
    source_prompt: str
    prompt: str


def still_life_task(size: int | None = None) -> Task:
    """Recolour the object of a rendered scene; `size` resizes the picture for other models."""
    scene = sample_scene(0, objects=1)
    colour = "blue" if scene.objects[0].colour != "blue" else "red"
    picture = Image.fromarray(scene.render())
    if size is not None:
        picture = picture.resize((size, size), Image.Resampling.BICUBIC)
    return Task(picture, scene.caption(wording=0), scene.with_object(0, colour=colour).caption(wording=0))


def edit_with_diffusers(pipe: StableDiffusionDiffEditPipeline, task: Task) -> object:
    """The three calls of diffusers' own example."""
    generator = torch.Generator("cpu").manual_seed(0)
    mask = pipe.generate_mask(
        image=task.image,
        source_prompt=task.source_prompt,
        target_prompt=task.prompt,
        num_inference_steps=STEPS,
        num_maps_per_mask=MAPS,
        generator=generator,
    )
    latents = pipe.invert(
        prompt=task.source_prompt,
        image=task.image,
        num_inference_steps=STEPS,
        inpaint_strength=STRENGTH,
        generator=generator,
    ).latents
    return pipe(
        prompt=task.prompt,
        mask_image=mask,
        image_latents=latents,
        negative_prompt=task.source_prompt,
        num_inference_steps=STEPS,
        inpaint_strength=STRENGTH,
        guidance_scale=GUIDANCE,
        generator=generator,
    )


def edit_here(pipe: DiffEditPipeline, task: Task, **reused: Any) -> DiffEditPipelineOutput:
    """One call."""
    output = pipe(
        image=task.image,
        source_prompt=task.source_prompt,
        prompt=task.prompt,
        num_inference_steps=STEPS,
        num_maps_per_mask=MAPS,
        inpaint_strength=STRENGTH,
        guidance_scale=GUIDANCE,
        generator=torch.Generator("cpu").manual_seed(0),
        **reused,
    )
    assert isinstance(output, DiffEditPipelineOutput)
    return output


def diffusers_pipeline(pipe: DiffEditPipeline) -> StableDiffusionDiffEditPipeline:
    """diffusers' pipeline around the very same modules."""
    return StableDiffusionDiffEditPipeline(
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


@contextmanager
def counted(unet: torch.nn.Module) -> Iterator[list[int]]:
    """Collect how many samples each call of the UNet evaluates."""
    batches: list[int] = []
    hook = unet.register_forward_pre_hook(lambda _, inputs: batches.append(inputs[0].shape[0]))
    try:
        yield batches
    finally:
        hook.remove()


def contenders(pipe: DiffEditPipeline, task: Task) -> list[Contender]:
    """Every way to edit, warmed up by the run that counts its evaluations."""
    upstream = diffusers_pipeline(pipe)
    upstream.set_progress_bar_config(disable=True)
    pipe.set_progress_bar_config(disable=True)
    first = edit_here(pipe, task)
    reused = {"trajectory": first.trajectory, "mask_image": first.pixel_mask}
    found = [
        Contender("diffusers' StableDiffusionDiffEditPipeline", lambda: edit_with_diffusers(upstream, task)),
        Contender("DiffEditPipeline", lambda: edit_here(pipe, task)),
        Contender("DiffEditPipeline, trajectory and mask reused", lambda: edit_here(pipe, task, **reused)),
    ]
    for one in found:
        with counted(pipe.unet) as batches:
            one.edit()
        one.evaluations = sum(batches)
    return found


def race(racing: list[Contender], repeats: int, synchronize: Callable[[], None]) -> None:
    """Let the contenders take turns, `repeats` times."""
    for _ in range(repeats):
        for one in racing:
            synchronize()
            started = time.perf_counter()
            one.edit()
            synchronize()
            one.seconds.append(time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", help="a folder or a Hub id (default: the still-life model)")
    parser.add_argument("--size", type=int, help="side of the picture in pixels, for other models")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device")
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"))
    options = parser.parse_args()
    quiet_loading()
    pipe = load_pipeline(DiffEditPipeline, options.model, options.device, options.dtype)
    synchronize = torch.cuda.synchronize if pipe.device.type == "cuda" else lambda: None
    racing = contenders(pipe, still_life_task(options.size))
    race(racing, options.repeats, synchronize)
    upstream, here, _ = (statistics.median(one.seconds) for one in racing)
    print("| one edit | UNet sample evaluations | median seconds | range |\n| --- | --- | --- | --- |")
    print("\n".join(str(one) for one in racing))
    print(
        f"\n{upstream / here:.2f} times as fast as diffusers' pipeline; {pipe.device}, {pipe.unet.dtype}, ",
        end="",
    )
    print(f"{torch.get_num_threads()} threads, {options.repeats} repeats in turn")


if __name__ == "__main__":
    main()
