"""Time StyleDiffusion's learning here and as published, for one image: `python -m benchmarks.stylediffusion_learning`.

First, the two are checked to compute the same: their losses are compared over a few steps in float64, because Adam
magnifies float32's rounding errors a hundredfold within a few updates. Then they take turns: the published loop (see
published_learning.py), ours with the published schedule, with the long and the short one, without any update, by
default (the short one in fewer steps), and with the short one and several images side by side. Learning has a result
only after its last step, so its time is also the time to a reconstruction within 1 dB of the VAE's own, if that is
reached.
"""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image

from benchmarks.contenders import counted, duration
from benchmarks.options import add_count, add_model, add_size, opened, parser_of
from benchmarks.published_learning import PlainLearning, learn_as_published
from benchmarks.sd15 import side_of
from benchmarks.stylediffusion_editing import default_steps
from benchmarks.timing import ratios, spread, take_turns
from semantic_edit.denoisers import denoiser_of
from semantic_edit.evaluation.measuring import measured_reconstruction
from semantic_edit.evaluation.method import floats_of, sides_of
from semantic_edit.evaluation.restyled import Restyled
from semantic_edit.mapping_networks import LearningSettings
from semantic_edit.pipelines.stylediffusion import StyleDiffusionPipeline
from semantic_edit.still_life.scenes import sample_scene

GUIDANCE = 7.5
TOLERANCE = 1e-5
PUBLISHED = "as published"


@dataclass
class Learner:
    """One way to learn.

    learn: Learns the images.
    look: Reads from what `learn` returns the reconstruction of the first image, floats (height, width, 3), and the
        number of backward evaluations of one image.
    images: How many images it learns in a call.
    """

    learn: Callable[[], Any]
    look: Callable[[Any], tuple[np.ndarray, int]]
    images: int = 1
    forward_evaluations: float = 0.0
    backward_evaluations: int = 0
    quality: dict[str, float] | None = None

    def measure(self, pipe: Any, image: Image.Image) -> None:
        """Count the evaluations and measure the reconstruction; this also warms up."""
        with counted(pipe.unet) as samples:
            learned = self.learn()
        self.forward_evaluations = sum(samples) / self.images
        reconstruction, self.backward_evaluations = self.look(learned)
        self.quality = measured_reconstruction(pipe, image, reconstruction)


def still_lifes(count: int, size: int | None = None) -> list[tuple[Image.Image, str]]:
    """Unseen scenes, resized to `size` x `size` pixels if that is given, and their captions."""
    scenes = [sample_scene(number, "test") for number in range(count)]
    images = [Image.fromarray(scene.render()) for scene in scenes]
    if size is not None:
        images = [image.resize((size, size), Image.Resampling.BICUBIC) for image in images]
    return [(image, scene.caption(0)) for image, scene in zip(images, scenes, strict=True)]


def as_published(
    pipe: StyleDiffusionPipeline, lesson: tuple[Image.Image, str], steps: int, settings: LearningSettings
) -> Learner:
    """The published loop."""
    image, prompt = lesson

    def look(done: PlainLearning) -> tuple[np.ndarray, int]:
        return floats_of(denoiser_of(pipe), done.latents), done.backward_evaluations

    return Learner(lambda: learn_as_published(pipe, image, prompt, steps, GUIDANCE, settings), look)


def here(
    pipe: StyleDiffusionPipeline,
    lessons: list[tuple[Image.Image, str]],
    steps: int,
    settings: LearningSettings,
) -> Learner:
    """`learn_mapping`."""
    method = Restyled(steps, GUIDANCE, settings=settings)
    images, prompts = zip(*lessons, strict=True)

    def look(networks: list[Any]) -> tuple[np.ndarray, int]:
        updates = [method.backward_evaluations(network) for network in networks]
        return method.reconstruct(pipe, networks[0]), max(updates)

    return Learner(lambda: method.prepare(pipe, images, prompts), look, len(lessons))


def largest_disagreement(
    pipe: StyleDiffusionPipeline, lesson: tuple[Image.Image, str], steps: int, checked: int, inner_steps: int
) -> float:
    """The largest relative difference between our losses and the published loop's, over the noisiest steps."""
    settings = replace(LearningSettings.published(), inner_steps=inner_steps)
    image, prompt = lesson
    with in_double_precision(pipe):
        plain = learn_as_published(pipe, image, prompt, steps, GUIDANCE, settings, only=checked)
        learned = pipe.learn_mapping(image, prompt, steps, GUIDANCE, settings=settings, **sides_of(image))
    assert not isinstance(learned, list)  # one image under one prompt
    assert learned.report is not None  # it was learned just now
    ours = learned.report.steps[:checked]
    pairs = [
        (plain.before, [step.latent_before[0] for step in ours]),
        (plain.after, [step.latent_after[0] for step in ours]),
        (plain.attention_before, [step.attention_before[0] for step in ours]),
    ]
    return max(
        abs(one - other) / abs(one)
        for first, second in pairs
        for one, other in zip(first, second, strict=True)
    )


@contextmanager
def in_double_precision(pipe: StyleDiffusionPipeline) -> Iterator[None]:
    """In the block, let the models, and the code that converts to float32, work in float64."""
    models = (pipe.vae, pipe.text_encoder, pipe.unet, pipe.image_encoder)
    try:
        for model in models:
            model.double()
        with patch.object(torch.Tensor, "float", torch.Tensor.double):
            yield
    finally:
        for model in models:
            model.float()


def table(learners: dict[str, Learner], taken: dict[str, list[float]]) -> str:
    """Print a line for each learner, with the seconds and evaluations of one image."""
    lines = [
        "| one picture | forward | backward | seconds, median (range) | PSNR to the VAE's, dB | below its own | |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, learner in learners.items():
        assert learner.quality is not None
        lost = learner.quality["vae_to_picture"] - learner.quality["to_picture"]
        reached = "within 1 dB" if lost <= 1 else "not within 1 dB"
        seconds = spread([one / learner.images for one in taken[name]])
        lines.append(
            f"| {name} | {learner.forward_evaluations:.0f} | {learner.backward_evaluations} | {seconds} | "
            f"{learner.quality['to_vae']:.1f} | {lost:.2f} | {reached} |"
        )
    return "\n".join(lines)


def learners_of(
    pipe: StyleDiffusionPipeline,
    lessons: list[tuple[Image.Image, str]],
    steps: int,
    inner_steps: int,
) -> dict[str, Learner]:
    """All learners, the slowest first, each run once."""
    published = replace(LearningSettings.published(), inner_steps=inner_steps)
    none, short, long = (getattr(LearningSettings, name)() for name in ("none", "short", "long"))
    learners = {
        PUBLISHED: as_published(pipe, lessons[0], steps, published),
        "here, published schedule": here(pipe, lessons[:1], steps, published),
        "here, long schedule": here(pipe, lessons[:1], steps, long),
        "here, short schedule": here(pipe, lessons[:1], steps, short),
        "here, no updates": here(pipe, lessons[:1], steps, none),
        "here, by default": here(pipe, lessons[:1], default_steps(steps), short),
        f"here, short schedule, {len(lessons)} at once": here(pipe, lessons, steps, short),
    }
    for learner in learners.values():
        learner.measure(pipe, lessons[0][0])
    return learners


def gains(learners: dict[str, Learner], taken: dict[str, list[float]]) -> dict[str, list[float]]:
    """How many times as fast as the published loop each learner is, in each round."""
    return {
        name: [one * learner.images for one in ratios(taken[PUBLISHED], taken[name])]
        for name, learner in learners.items()
        if name != PUBLISHED
    }


def lines(learners: dict[str, Learner], taken: dict[str, list[float]], steps: int) -> list[str]:
    """Lines for the table of contenders.py."""
    cells = {
        name: f"{duration([one / learner.images for one in taken[name]])}, "
        f"{learner.forward_evaluations:.0f} forward and {learner.backward_evaluations} backward"
        for name, learner in learners.items()
    }
    return [
        f"| StyleDiffusion learning against the published loop, S = {steps}: {name.removeprefix('here, ')} | "
        f"{cells[name]} | {cells[PUBLISHED]} | **{spread(gain)}** |"
        for name, gain in gains(learners, taken).items()
    ]


def compared(
    pipe: StyleDiffusionPipeline, lessons: list[tuple[Image.Image, str]], steps: int, checked: int
) -> str:
    """A sentence saying that both loops compute the same.

    Raises:
        AssertionError: If they do not.
    """
    difference = largest_disagreement(pipe, lessons[0], steps, checked, inner_steps=3)
    assert difference <= TOLERANCE, f"the two loops' losses differ by {difference:.1e}, relatively"
    return f"losses of {checked} steps differ by at most {difference:.1e}, relatively"


def main() -> None:
    parser = parser_of(__doc__, repeats=3)
    add_model(parser)
    add_size(parser)
    add_count(parser, "--steps", 30, "number of steps")
    add_count(parser, "--inner-steps", 100, "updates per step of the published schedule, for a quick try")
    add_count(parser, "--batch", 8, "number of images that are learned side by side")
    add_count(parser, "--checked", 5, "number of steps whose losses are compared")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", "The learning did not converge")  # the table says how close it came
    pipe = opened(StyleDiffusionPipeline, options, "float32")
    lessons = still_lifes(options.batch, options.size or side_of(options.model))
    print(compared(pipe, lessons, options.steps, options.checked), flush=True)
    learners = learners_of(pipe, lessons, options.steps, options.inner_steps)
    taken = take_turns({name: learner.learn for name, learner in learners.items()}, options.repeats)
    print(table(learners, taken))
    for name, faster in gains(learners, taken).items():
        print(
            f"{name}: {statistics.median(faster):.1f} times as fast ({min(faster):.1f} to {max(faster):.1f})"
        )
    print(f"{pipe.device}, {torch.get_num_threads()} threads, {options.repeats} rounds in turn, one picture")


if __name__ == "__main__":
    main()
