"""Make the README's pictures from real runs of the still-life model: `make pictures`.

The edits are the first case of each kind at the seed that is typed, not picked by hand.
"""

import argparse
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from semantic_edit.editing.origins import mask_as_picture
from semantic_edit.loading import load_pipeline, quiet_loading
from semantic_edit.pipelines import DiffEditPipeline, StyleDiffusionPipeline
from semantic_edit.still_life.cases import EditCase, edit_cases
from semantic_edit.strips import edit_strip, strip

PICTURES = Path(__file__).parent / "pictures"
CARDS = Path(__file__).parents[1] / "model_cards" / "pictures"
TITLE_HEIGHT = 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0, help="which test scenes to draw")
    options = parser.parse_args()
    quiet_loading()
    pipe = load_pipeline(DiffEditPipeline)
    rows = [edited_row(pipe, case, options.seed) for case in edit_cases(3, seed=options.seed, objects=1)]
    PICTURES.mkdir(exist_ok=True)
    stacked(rows).save(CARDS / "diffedit.png", optimize=True)
    learned_row(edit_cases(1, seed=options.seed, kinds=("colour",), objects=1)[0]).save(
        CARDS / "stylediffusion.png", optimize=True
    )
    pair = edit_cases(1, seed=options.seed, kinds=("object",), objects=2)[0]
    edited_row(pipe, pair, options.seed).save(PICTURES / "two-objects.png", optimize=True)


def edited_row(pipe: DiffEditPipeline, case: EditCase, seed: int) -> Image.Image:
    """Run one edit and draw what came of it, under the words that asked for it."""
    output = pipe(
        image=case.image,
        source_prompt=case.source_prompt,
        prompt=case.prompt,
        generator=torch.Generator("cpu").manual_seed(seed),
    )
    mask = mask_as_picture(output.pixel_mask[0])
    strip = edit_strip(case.image, output.images[0], mask, output.soft_mask, output.frames[0].box)
    return titled(strip, f"{case.source_prompt}   becomes   {case.prompt}")


def learned_row(case: EditCase) -> Image.Image:
    """Learn a picture, and draw it beside four edits of it, each under its word."""
    pipe = load_pipeline(StyleDiffusionPipeline)
    network = pipe.learn_mapping(case.image, case.source_prompt)
    words = ["red", "green", "blue", "yellow", "white"]
    words = [word for word in words if word != case.source_word][:4]
    prompts = [case.source_prompt.replace(case.source_word, word) for word in words]
    edits = pipe(prompts, mapping_network=network)
    panels = [("the picture", case.image), *zip(words, edits.images, strict=True)]
    return titled(strip(panels), f"{case.source_prompt}, learned once")


def titled(picture: Image.Image, title: str) -> Image.Image:
    """`picture` below a line of text."""
    canvas = Image.new("RGB", (picture.width, picture.height + TITLE_HEIGHT), "white")
    font = ImageFont.load_default(size=20)
    ImageDraw.Draw(canvas).text((picture.width // 2, TITLE_HEIGHT // 2), title, "black", font, anchor="mm")
    canvas.paste(picture, (0, TITLE_HEIGHT))
    return canvas


def stacked(rows: list[Image.Image]) -> Image.Image:
    """Pictures of one width below each other."""
    canvas = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        canvas.paste(row, (0, top))
        top += row.height
    return canvas


if __name__ == "__main__":
    main()
