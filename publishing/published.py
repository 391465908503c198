"""Which pipelines are published; imported at every start of the command line, so it imports nothing slow."""

from __future__ import annotations

from dataclasses import dataclass

from semantic_edit.disk.models import STABLE_DIFFUSION, STABLE_DIFFUSION_XL, Family


@dataclass(frozen=True)
class Published:
    """A pipeline under the name by which diffusers finds its file.

    family: Of the models that it works with.
    call: How it is called, for the head of the file.
    """

    module: str
    class_name: str
    family: Family
    call: str


EDIT_CALL = 'edit = pipe(image=picture, source_prompt="a bowl of apples", prompt="a bowl of pears")'
STYLE_CALL = 'learned = pipe.learn_mapping(picture, "a dog"); edit = pipe("a tiger", mapping_network=learned)'
PIPELINES = {
    "diffedit": Published(
        "semantic_edit.pipelines.diffedit", "DiffEditPipeline", STABLE_DIFFUSION, EDIT_CALL
    ),
    "stylediffusion": Published(
        "semantic_edit.pipelines.stylediffusion", "StyleDiffusionPipeline", STABLE_DIFFUSION, STYLE_CALL
    ),
    "diffedit_xl": Published(
        "semantic_edit.pipelines.diffedit_xl",
        "StableDiffusionXLDiffEditPipeline",
        STABLE_DIFFUSION_XL,
        EDIT_CALL,
    ),
    "stylediffusion_xl": Published(
        "semantic_edit.pipelines.stylediffusion_xl",
        "StableDiffusionXLStyleDiffusionPipeline",
        STABLE_DIFFUSION_XL,
        STYLE_CALL,
    ),
}


def pipelines_for(family: Family) -> dict[str, Published]:
    """Those of `PIPELINES` that work with a family's models."""
    return {name: published for name, published in PIPELINES.items() if published.family is family}
