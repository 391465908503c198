"""Train the still-life model from nothing: `python -m training.still_life all`.

Each stage goes on from its last checkpoint when it was stopped, and is not run again once it is done. By the seconds a
step that were measured on two CPU cores, `all` should take three to four hours there; a GPU is used where there is one.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

from training.denoising import LatentPool
from training.loop import keep_freed_memory
from training.pool import pool_coverage
from training.saving import save_half
from training.still_life import clip, judge, towers, unet, vae

STAGES = ("vae", "clip", "vision", "unet", "decoder", "judge")
PICTURES = 48_000


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m training.still_life", description=__doc__)
    parser.add_argument("stage", choices=[*STAGES, "all", "assemble"])
    parser.add_argument(
        "--out", type=Path, default=Path("runs/still-life"), help="checkpoints, logs and the model"
    )
    parser.add_argument("--pictures", type=int, default=PICTURES, help="rendered scenes to train on")
    parser.add_argument("--steps", type=int, help="optimizer steps, in place of the stage's own number")
    parser.add_argument(
        "--start-from", type=Path, help="a model folder whose denoiser is trained on (unet only)"
    )
    options = parser.parse_args(arguments)
    for stage in STAGES if options.stage == "all" else [options.stage]:
        if stage != "assemble":
            run_stage(stage, options.out, options.pictures, options.steps, options.start_from)
    if options.stage in ("all", "assemble"):
        assemble(options.out / "model")


def run_stage(
    stage: str, out: Path, images: int, steps: int | None = None, start_from: Path | None = None
) -> None:
    """Run one stage and save its part of the model under `out`/model; earlier parts are read from there."""
    model = out / "model"
    if stage == "vae":
        vae.train_vae(out, images, vae.SETTINGS.lasting(steps)).save_pretrained(model / "vae")
    elif stage == "clip":
        towers.save_parts(clip.train_clip(out, images, clip.SETTINGS.lasting(steps)), model)
    elif stage == "vision":
        trained = towers.load_parts(model)
        clip.train_vision(trained, out, images, clip.VISION_SETTINGS.lasting(steps))
        towers.save_parts(trained, model)
    elif stage == "unet":
        latents = vae.pool_latents(AutoencoderKL.from_pretrained(model / "vae"), out, images)
        pool = LatentPool(latents, pool_coverage(out / "pictures", "train", images))
        text_encoder = CLIPTextModel.from_pretrained(model / "text_encoder")
        tokenizer = CLIPTokenizer.from_pretrained(model / "tokenizer")
        settings = unet.SETTINGS.lasting(steps)
        start = None if start_from is None else UNet2DConditionModel.from_pretrained(start_from / "unet")
        trained_unet = unet.train_unet(out, pool, text_encoder, tokenizer, settings, start)
        trained_unet.save_pretrained(model / "unet")
    elif stage == "decoder":
        trained_vae = AutoencoderKL.from_pretrained(model / "vae")
        vae.polish_decoder(trained_vae, out, images, vae.DECODER_SETTINGS.lasting(steps))
        trained_vae.save_pretrained(model / "vae")
    else:
        judge.train_judge(out, images, judge.SETTINGS.lasting(steps))


def assemble(model: Path) -> None:
    """Put the parts together in `model`/assembled: half-precision safetensors in Stable Diffusion's layout."""
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(model / "vae"),
        text_encoder=CLIPTextModel.from_pretrained(model / "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(model / "tokenizer"),
        unet=UNet2DConditionModel.from_pretrained(model / "unet"),
        scheduler=unet.new_scheduler(),
        safety_checker=None,
        feature_extractor=towers.new_image_processor(),
        image_encoder=CLIPVisionModelWithProjection.from_pretrained(model / "image_encoder"),
        requires_safety_checker=False,
    )
    save_half(pipeline, model / "assembled", {"tokenizer": model / "tokenizer"})


if __name__ == "__main__":
    keep_freed_memory()
    main()
