"""Make the README's pictures from real runs of the still-life model: `make pictures`.

None is chosen by hand: of the first `OF` edits of each kind with the given seed, the one with the median distance to
the perfect edit is drawn.
"""

import argparse
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from semantic_edit.editing.origins import mask_as_image
from semantic_edit.evaluation.metrics import psnr
from semantic_edit.loading import load_pipeline, quiet_loading
from semantic_edit.pipelines import DiffEditPipeline, DiffEditPipelineOutput
from semantic_edit.pipelines.strips import edit_strip, strip
from semantic_edit.still_life.cases import EditCase, edit_cases

PICTURES = Path(__file__).parent / "pictures"
CARDS = Path(__file__).parents[1] / "model_cards" / "pictures"
TITLE_HEIGHT = 30
OF = 9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0, help="which test scenes to draw")
    options = parser.parse_args()
    quiet_loading()
    pipe = load_pipeline("diffedit")
    rows = [median_row(pipe, kind, 1, options.seed) for kind in ("colour", "object", "surface")]
    PICTURES.mkdir(exist_ok=True)
    stacked(rows).save(CARDS / "diffedit.png", optimize=True)
    learned_row(edit_cases(1, seed=options.seed, kinds=("colour",), objects=1)[0]).save(
        CARDS / "stylediffusion.png", optimize=True
    )
    median_row(pipe, "object", 2, options.seed).save(PICTURES / "two-objects.png", optimize=True)


def median_row(pipe: DiffEditPipeline, kind: str, objects: int, seed: int) -> Image.Image:
    """Run some edits and draw what came of the middle one, under the words that asked for it."""
    done = [edited(pipe, case, seed) for case in edit_cases(OF, seed=seed, kinds=(kind,), objects=objects)]
    _, case, output = sorted(done, key=lambda one: one[0])[OF // 2]
    mask = mask_as_image(output.pixel_mask[0])
    strip = edit_strip(case.image, output.images[0], mask, output.soft_mask, output.frames[0].box)
    return titled(strip, f"{case.source_prompt}   becomes   {case.prompt}")


def edited(
    pipe: DiffEditPipeline, case: EditCase, seed: int
) -> tuple[float, EditCase, DiffEditPipelineOutput]:
    """One edit, with its PSNR to the perfect one in front."""
    output = pipe(
        image=case.image,
        source_prompt=case.source_prompt,
        prompt=case.prompt,
        generator=torch.Generator("cpu").manual_seed(seed),
    )
    return psnr(output.images[0], case.target_image), case, output


def learned_row(case: EditCase) -> Image.Image:
    """Learn a picture, and draw it beside four edits of it, each under its word."""
    pipe = load_pipeline("stylediffusion")
    network = pipe.learn_mapping(case.image, case.source_prompt)
    words = ["red", "green", "blue", "yellow", "white"]
    words = [word for word in words if word != case.source_word][:4]
    prompts = [case.source_prompt.replace(case.source_word, word) for word in words]
    edits = pipe(prompts, mapping_network=network)
    panels = [("the picture", case.image), *zip(words, edits.images, strict=True)]
    return titled(strip(panels), f"{case.source_prompt}, learned once")


def titled(image: Image.Image, title: str) -> Image.Image:
    """`image` below a line of text."""
    canvas = Image.new("RGB", (image.width, image.height + TITLE_HEIGHT), "white")
    font = ImageFont.load_default(size=20)
    ImageDraw.Draw(canvas).text((image.width // 2, TITLE_HEIGHT // 2), title, "black", font, anchor="mm")
    canvas.paste(image, (0, TITLE_HEIGHT))
    return canvas


def stacked(rows: list[Image.Image]) -> Image.Image:
    """Images of one width below each other."""
    canvas = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        canvas.paste(row, (0, top))
        top += row.height
    return canvas


if __name__ == "__main__":
    main()
