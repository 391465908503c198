"""Which pipelines are published; imported at every start of the command line, so it imports nothing slow."""

from __future__ import annotations

from dataclasses import dataclass

from semantic_edit.disk.models import (
    FLUX,
    FLUX_2_KLEIN,
    QWEN_IMAGE,
    STABLE_DIFFUSION,
    STABLE_DIFFUSION_3,
    STABLE_DIFFUSION_XL,
    Z_IMAGE,
    Family,
)


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


CALLS = {
    "diffedit": 'edit = pipe(image=picture, source_prompt="a bowl of apples", prompt="a bowl of pears")',
    "stylediffusion": 'learned = pipe.learn_mapping(picture, "a dog"); edit = pipe("a tiger", mapping_network=learned)',
}
SUFFIXES = {
    "": STABLE_DIFFUSION,
    "_xl": STABLE_DIFFUSION_XL,
    "_sd3": STABLE_DIFFUSION_3,
    "_flux": FLUX,
    "_qwen": QWEN_IMAGE,
    "_z_image": Z_IMAGE,
    "_flux2_klein": FLUX_2_KLEIN,
}
PIPELINES = {
    f"{method}{suffix}": Published(
        f"semantic_edit.pipelines.{method}{suffix}", family.class_name(method), family, call
    )
    for suffix, family in SUFFIXES.items()
    for method, call in CALLS.items()
    if method in family.methods
}


def pipelines_for(family: Family) -> dict[str, Published]:
    """Those of `PIPELINES` that work with a family's models."""
    return {name: published for name, published in PIPELINES.items() if published.family is family}
