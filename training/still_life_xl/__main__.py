"""The still-life model in SDXL's layout: put it together in a folder, or train it from the still-life model.

    python -m training.still_life_xl assemble still-life-xl
    python -m training.still_life_xl train

Training goes on from its last checkpoint when it was stopped, and is not run again once it is done.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

from semantic_edit.still_life import model_path
from training.loop import keep_freed_memory
from training.saving import save_half
from training.still_life.towers import write_tokenizer
from training.still_life_xl import SHARED, WEIGHTS, assemble
from training.still_life_xl.pool import scene_pool
from training.still_life_xl.text import SETTINGS as TEXT_SETTINGS
from training.still_life_xl.text import teach_text_encoder
from training.still_life_xl.unet import SETTINGS, new_scheduler, new_unet, train_unet

PICTURES = 24_000


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.still_life_xl",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    assembling = commands.add_parser("assemble", help="copy the parts into a folder that diffusers loads")
    assembling.add_argument("folder", type=Path)
    assembling.add_argument(
        "--weights", type=Path, default=WEIGHTS, help="what training left, if not the stored"
    )
    training = commands.add_parser("train", help="train what differs from the still-life model")
    training.add_argument(
        "--out", type=Path, default=Path("runs/still-life-xl"), help="checkpoints, logs, weights"
    )
    training.add_argument("--pictures", type=int, default=PICTURES, help="rendered scenes to train on")
    training.add_argument("--steps", type=int, help="optimizer steps of both, in place of their own numbers")
    options = parser.parse_args(arguments)
    if options.command == "assemble":
        print(assemble(options.folder, options.weights))
    else:
        train(options.out, options.pictures, options.steps)


def train(out: Path, images: int, steps: int | None = None) -> None:
    """Train the second text encoder, then the UNet, and leave what differs in `out`/weights."""
    base = StableDiffusionPipeline.from_pretrained(model_path())
    tokenizer_2 = write_tokenizer(out / "tokenizer_2", pad_token="!")
    student = teach_text_encoder(
        out, base.text_encoder, (base.tokenizer, tokenizer_2), images, TEXT_SETTINGS.lasting(steps)
    )
    bridge = student.bridge.weight.detach()
    pipe = StableDiffusionXLPipeline(
        vae=base.vae,
        text_encoder=base.text_encoder,
        text_encoder_2=student.encoder,
        tokenizer=base.tokenizer,
        tokenizer_2=tokenizer_2,
        unet=new_unet(base.unet, bridge, student.encoder.config.projection_dim),
        scheduler=new_scheduler(),
        image_encoder=base.image_encoder,
        feature_extractor=base.feature_extractor,
        add_watermarker=False,
    )
    train_unet(pipe, out, scene_pool(base.vae, out, images), SETTINGS.lasting(steps))
    written = {"tokenizer": model_path() / "tokenizer", "tokenizer_2": out / "tokenizer_2"}
    save_half(pipe, out / "whole", written)
    shutil.copytree(
        out / "whole", out / "weights", ignore=shutil.ignore_patterns(*SHARED), dirs_exist_ok=True
    )


if __name__ == "__main__":
    keep_freed_memory()
    main()
