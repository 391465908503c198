"""The still-life model in Stable Diffusion 3's layout: put it together in a folder, or train its transformer.

    python -m training.still_life_sd3 assemble still-life-sd3
    python -m training.still_life_sd3 train

Training goes on from its last checkpoint when it was stopped, and is not run again once it is done.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from training.denoising import LatentPool
from training.loop import keep_freed_memory
from training.pool import pool_coverage, pool_scenes
from training.still_life.vae import pool_latents
from training.still_life_sd3 import WEIGHTS, assemble
from training.still_life_sd3.parts import new_pipeline
from training.still_life_sd3.transformer import SETTINGS, train_transformer

PICTURES = 32_000


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.still_life_sd3",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    assembling = commands.add_parser("assemble", help="put the parts into a folder that diffusers loads")
    assembling.add_argument("folder", type=Path)
    assembling.add_argument(
        "--weights", type=Path, default=WEIGHTS, help="what training left, if not the stored"
    )
    training = commands.add_parser("train", help="train the transformer")
    training.add_argument(
        "--out", type=Path, default=Path("runs/still-life-sd3"), help="checkpoints, logs, weights"
    )
    training.add_argument("--pictures", type=int, default=PICTURES, help="rendered scenes to train on")
    training.add_argument("--steps", type=int, help="optimizer steps")
    options = parser.parse_args(arguments)
    if options.command == "assemble":
        print(assemble(options.folder, options.weights))
    else:
        train(options.out, options.pictures, options.steps)


def train(out: Path, images: int, steps: int | None = None) -> None:
    """Train the transformer and leave it in `out`/weights."""
    pipe = new_pipeline()
    latents = pool_latents(pipe.vae, out, images)
    pool = LatentPool(latents, pool_coverage(out / "pictures", "train", images))
    train_transformer(pipe, out, pool, pool_scenes("train", images), SETTINGS.lasting(steps))
    pipe.transformer.half().save_pretrained(out / "weights" / "transformer")


if __name__ == "__main__":
    keep_freed_memory()
    main()
