"""Measure the still-life model, and DiffEdit on it, on unseen test scenes.

    python -m semantic_edit.evaluation.still_life --out runs/figures

prints one line per figure with the number of cases, and writes the figures to figures.json, together with pictures to
look at: samples.png and edits.png.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from PIL import Image
from torch.nn import functional
from transformers import CLIPVisionModelWithProjection

from semantic_edit.attention_processors import BorrowedNetwork, captured_cross_attention, lock_of
from semantic_edit.denoisers import denoiser_of, unet_denoiser_of
from semantic_edit.disk.images import as_png
from semantic_edit.disk.writing import write_file, write_folder
from semantic_edit.evaluation.grids import edit_grid, image_grid
from semantic_edit.evaluation.method import embeds_of, image_of, latents_of
from semantic_edit.evaluation.metrics import iou, nearest_alternative, psnr, standard_error
from semantic_edit.evaluation.verdicts import shown_objects, shows_edit, told_objects
from semantic_edit.pipelines import DiffEditPipeline
from semantic_edit.still_life import model_path
from semantic_edit.still_life.cases import EditCase, edit_cases
from semantic_edit.still_life.clip import PAIRS, embed_images
from semantic_edit.still_life.judge import Judge, judged, load_judge
from semantic_edit.still_life.pixels import as_pixels
from semantic_edit.still_life.scenes import HELD_OUT_PAIRS, Scene, sample_scene

# Scenes of the test split: these seeds are far from those that edit_cases draws.
FIRST_SCENE = 0
CASE_SEED = 1
Figures = dict[str, dict[str, float]]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m semantic_edit.evaluation.still_life", description=__doc__
    )
    parser.add_argument("--model", default=str(model_path()), help="a folder with a still-life model")
    parser.add_argument("--out", type=Path, default=Path("runs/figures"))
    parser.add_argument(
        "--count", type=int, default=256, help="scenes and prompts; edits are a quarter of it a kind"
    )
    parser.add_argument("--split", choices=("test", "validation"), default="test")
    parser.add_argument(
        "--only", nargs="*", choices=tuple(FIGURES), default=tuple(FIGURES), help="which figures"
    )
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    generator = StableDiffusionPipeline.from_pretrained(options.model)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator.to(device).set_progress_bar_config(disable=True)
    measured: Figures = {}
    for name in options.only:
        for figure, values in FIGURES[name](generator, options.count, options.split, options.out).items():
            measured[figure] = values
            print(
                f"{figure}: " + ", ".join(f"{key} {value:.4g}" for key, value in values.items()), flush=True
            )
    write_file(options.out / "figures.json", (json.dumps(measured, indent=2) + "\n").encode())


def _mean(values: list[float] | list[bool]) -> dict[str, float]:
    return {"mean": float(np.mean(values)), "standard_error": standard_error(values), "n": len(values)}


def _scenes(count: int, split: str, objects: int | None = None) -> list[Scene]:
    return [sample_scene(FIRST_SCENE + number, split, objects) for number in range(count)]


@torch.no_grad()
def _reconstructions(pipe: StableDiffusionPipeline, images: list[Image.Image]) -> list[Image.Image]:
    denoiser = denoiser_of(pipe)
    latents = [latents_of(denoiser, images[first : first + 32]) for first in range(0, len(images), 32)]
    return [image_of(denoiser, one) for one in torch.cat(latents).split(1)]


def vae_figures(pipe: StableDiffusionPipeline, count: int, split: str, out: Path) -> Figures:
    """How well pictures survive the autoencoder."""
    images = [Image.fromarray(scene.render()) for scene in _scenes(count, split)]
    values = [psnr(*pair) for pair in zip(images, _reconstructions(pipe, images), strict=True)]
    return {"VAE reconstruction, PSNR in dB": _mean(values)}


def judge_figures(pipe: StableDiffusionPipeline, count: int, split: str, out: Path) -> Figures:
    """The judge itself, on unseen renders: how often all its answers about a picture are right."""
    scenes = _scenes(2 * count, split)
    answers = judged(load_judge(), [Image.fromarray(scene.render()) for scene in scenes])
    right = [
        shown_objects(answer) == told_objects(scene) for answer, scene in zip(answers, scenes, strict=True)
    ]
    return {"judge on renders, every object and colour right": _mean(right)}


def clip_figures(pipe: StableDiffusionPipeline, count: int, split: str, out: Path) -> Figures:
    """Zero-shot naming of one object and its colour, among all pairs of words."""
    scenes = _scenes(2 * count, split, objects=1)
    image_encoder: CLIPVisionModelWithProjection = pipe.image_encoder
    named = denoiser_of(pipe).pooled_text([f"a photo of a {colour} {kind}" for colour, kind in PAIRS])
    texts = functional.normalize(named.float(), dim=-1)
    pixels = as_pixels(np.stack([scene.render() for scene in scenes])).to(pipe.device)
    best = (embed_images(image_encoder, pixels) @ texts.T).argmax(dim=-1).tolist()
    right = [PAIRS[choice] == told_objects(scene)[0] for choice, scene in zip(best, scenes, strict=True)]
    return {"tiny CLIP, zero-shot object and colour": _mean(right)}


def generation_figures(pipe: StableDiffusionPipeline, count: int, split: str, out: Path) -> Figures:
    """Whether generated pictures show what the prompt says, by the judge; 25 DDIM steps at guidance 7.5."""
    figures: Figures = {}
    judge, shown = load_judge(), []
    for objects in (1, 2):
        scenes = _scenes(count, split, objects)
        images = _generated(pipe, [scene.caption(0) for scene in scenes])
        right = [
            sorted(shown_objects(answer)) == sorted(told_objects(scene))
            for answer, scene in zip(judged(judge, images), scenes, strict=True)
        ]
        name = "one object" if objects == 1 else "both of two objects"
        figures[f"generated pictures show the prompt, {name}"] = _mean(right)
        unseen = [bool(HELD_OUT_PAIRS & set(told_objects(scene))) for scene in scenes]
        if any(unseen):
            held_out = [one for one, new in zip(right, unseen, strict=True) if new]
            figures[f"… of these, with a pair that training held out, {name}"] = _mean(held_out)
        shown += [(image, scene.caption(0)) for image, scene in zip(images[:32], scenes, strict=False)]
    grid = image_grid([image for image, _ in shown], columns=8)
    _write_shown(out, "samples", grid, [prompt for _, prompt in shown])
    return figures


def _write_shown(out: Path, name: str, grid: Image.Image, lines: list[str]) -> None:
    """Write pictures to look at, and what they show."""
    write_folder(out, {f"{name}.png": as_png(grid), f"{name}.txt": ("\n".join(lines) + "\n").encode()})


def _generated(pipe: StableDiffusionPipeline, prompts: list[str]) -> list[Image.Image]:
    images: list[Image.Image] = []
    for first in range(0, len(prompts), 32):
        batch = prompts[first : first + 32]
        seeds = [torch.Generator().manual_seed(first + number) for number in range(len(batch))]
        images += pipe(batch, num_inference_steps=25, guidance_scale=7.5, generator=seeds).images
    return images


def edit_figures(pipe: StableDiffusionPipeline, count: int, split: str, out: Path) -> Figures:
    """The "paper" preset's masks against the changed pixels, and whether its edits show the new word."""
    editor = _silent_editor(pipe)
    figures: Figures = {}
    judge, rows = load_judge(), []
    for objects in (1, 2):
        for kind in ("object", "colour"):
            cases = edit_cases(max(count // 4, 1), CASE_SEED, (kind,), objects, split)
            results = [_edited(editor, case, seed) for seed, case in enumerate(cases)]
            named = f"{kind} edits, {'one object' if objects == 1 else 'two objects'}"
            figures |= _verdicts(named, cases, results, judge)
            rows += list(zip(cases, results, strict=True))[:6]
    grid = edit_grid([(case.image, *result, case.target_image) for case, result in rows])
    _write_shown(out, "edits", grid, [f"{case.source_prompt} -> {case.prompt}" for case, _ in rows])
    return figures


def _silent_editor(pipe: StableDiffusionPipeline) -> Callable[..., Any]:
    editor = DiffEditPipeline.from_pipe(pipe)
    editor.set_progress_bar_config(disable=True)
    return partial(editor, preset="paper")


def _edited(
    editor: Callable[..., Any], case: EditCase, seed: int
) -> tuple[np.ndarray, np.ndarray, Image.Image]:
    """The soft map (latent-sized) and the mask (picture-sized), both as floats, and the edited picture."""
    result = editor(
        image=case.image,
        prompt=case.prompt,
        source_prompt=case.source_prompt,
        generator=torch.Generator().manual_seed(seed),
    )
    soft, mask = (one[0, 0].cpu().numpy() for one in (result.soft_mask, result.pixel_mask))
    return soft, mask, result.images[0]


def _verdicts(
    named: str, cases: list[EditCase], results: list[tuple[np.ndarray, np.ndarray, Image.Image]], judge: Judge
) -> Figures:
    answers = judged(judge, [image for _, _, image in results])
    overlaps, judged_right, nearest_right, others_right, kept = [], [], [], [], []
    for case, (_, mask, image), answer in zip(cases, results, answers, strict=True):
        overlaps.append(iou(mask > 0.5, case.changed_mask))
        shown, told = shown_objects(answer), told_objects(case.target_scene)
        judged_right.append(shows_edit(case, answer))
        nearest = nearest_alternative(image, case.alternatives, case.changed_mask)
        nearest_right.append(nearest == case.target_word)
        others_right.append(shown == told)
        kept.append(psnr(image, case.image, ~case.changed_mask))
    figures = {
        f"mask IoU, {named}": _mean(overlaps),
        f"edit success by the judge, {named}": _mean(judged_right),
        f"edit success by the nearest render, {named}": _mean(nearest_right),
        f"PSNR in dB outside the changed pixels, {named}": _mean(kept),
    }
    if len(cases[0].scene.objects) > 1:
        figures[f"edit success by the judge, the other object still right, {named}"] = _mean(others_right)
    return figures


@torch.no_grad()
def round_trip_figures(pipe: StableDiffusionPipeline, count: int, split: str, out: Path) -> Figures:
    """50 DDIM steps into noise and back without guidance, against the autoencoder's own reconstruction."""
    editor = _silent_editor(pipe)
    images = [Image.fromarray(scene.render()) for scene in _scenes(max(count // 8, 1), split)]
    everywhere = torch.ones(1, 1, 16, 16)
    returned = editor(
        image=images,
        prompt=[""] * len(images),
        mask_image=everywhere,
        inpaint_strength=1.0,
        guidance_scale=1.0,
    ).images
    values = [psnr(*pair) for pair in zip(returned, _reconstructions(pipe, images), strict=True)]
    return {"DDIM round trip of 50 steps, PSNR in dB": _mean(values)}


def background_figures(pipe: StableDiffusionPipeline, count: int, split: str, out: Path) -> Figures:
    """The largest differences outside the mask: in latents without `preserve_background`, and in pixels with it."""
    editor = _silent_editor(pipe)
    latent_gaps: list[float] = []
    pixel_gaps: list[float] = []
    for seed, case in enumerate(edit_cases(max(count // 32, 1), CASE_SEED, split=split)):
        call = partial(editor, image=case.image, prompt=case.prompt, source_prompt=case.source_prompt)
        edited = call(generator=torch.Generator().manual_seed(seed), output_type="latent")
        outside = (edited.mask == 0).expand_as(edited.images[:1])
        latent_gaps.append((edited.images - edited.trajectory.latents[0])[outside].abs().max().item())
        pasted = call(mask_image=edited.mask, trajectory=edited.trajectory, preserve_background=True)
        after, before = (np.asarray(image, dtype=np.int16) for image in (pasted.images[0], case.image))
        kept = np.kron(edited.mask[0, 0].cpu().numpy(), np.ones((8, 8))) == 0
        pixel_gaps.append(float(np.abs(after - before)[kept].max()))
    return {
        "latents outside the mask, largest difference from z_0": {
            "max": max(latent_gaps),
            "n": len(latent_gaps),
        },
        "pixels outside the mask with preserve_background, largest difference of 255": {
            "max": max(pixel_gaps),
            "n": len(pixel_gaps),
        },
    }


@torch.no_grad()
def attention_figures(pipe: StableDiffusionPipeline, count: int, split: str, out: Path) -> Figures:
    """Whether the maximum of the noun's 16x16 cross-attention map lies inside its object, for noised pictures."""
    denoiser, scheduler = unet_denoiser_of(pipe), DDIMScheduler.from_config(pipe.scheduler.config)
    inside: list[bool] = []
    for seed, scene in enumerate(_scenes(count, split)):
        latents = latents_of(denoiser, [Image.fromarray(scene.render())])
        ids, given = denoiser.tokens(scene.caption(0)).ids, embeds_of(denoiser, [scene.caption(0)])
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed)).to(pipe.device)
        with (
            lock_of(denoiser.unet),
            BorrowedNetwork(denoiser.unet) as unet,
            captured_cross_attention(unet, queries=256) as maps,
        ):
            for timestep in (301, 501, 701):
                noisy = scheduler.add_noise(latents, noise, torch.tensor([timestep]))
                denoiser.through(unet).predict(noisy, timestep, given)
        for index, item in enumerate(scene.objects):
            noun = pipe.tokenizer.convert_tokens_to_ids(f"{item.kind}</w>")
            column = ids.index(noun)
            row, place = divmod(int(maps.mean()[0, :, column].argmax()), 16)
            cell = scene.object_masks()[index, row * 8 : row * 8 + 8, place * 8 : place * 8 + 8]
            inside.append(bool(cell.any()))
    return {"noun's 16x16 cross-attention maximum inside its object": _mean(inside)}


FIGURES: dict[str, Callable[[StableDiffusionPipeline, int, str, Path], Figures]] = {
    "vae": vae_figures,
    "judge": judge_figures,
    "clip": clip_figures,
    "generation": generation_figures,
    "edits": edit_figures,
    "round-trip": round_trip_figures,
    "background": background_figures,
    "attention": attention_figures,
}

if __name__ == "__main__":
    main()
