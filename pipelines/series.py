"""Several edits of a learned image at once: from lines of text to captioned images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

from semantic_edit.pipelines.strips import word_strip

if TYPE_CHECKING:
    from semantic_edit.pipelines.outputs import StyleDiffusionPipelineOutput

Captioned = list[tuple[Image.Image, str]]


def prompts_in(text: str | None, most: int) -> list[str]:
    """The prompts in a text, one on each line; empty lines count for nothing.

    Raises:
        ValueError: If there are none, or more than `most`.
    """
    prompts = [line.strip() for line in (text or "").splitlines() if line.strip()]
    if not 1 <= len(prompts) <= most:
        raise ValueError(f"`prompt`: 1 to {most} lines with words are needed, got {len(prompts)}.")
    return prompts


def captioned(
    output: StyleDiffusionPipelineOutput, learned: str, prompts: list[str]
) -> tuple[Captioned, Captioned]:
    """The learned image and its edits, and for each of them the places of its words, all with captions.

    Args:
        output: The edits, with attention maps.
        learned: What the learned image shows.
        prompts: What the edits show.
    """
    assert output.attention_maps is not None
    (reconstruction,) = output.reconstruction  # type: ignore[misc]  # of an output in PIL images
    images, described = [reconstruction, *output.images], [learned, *prompts]
    restyled = list(zip(images, [f"As learned: {learned}", *prompts], strict=True))
    panels = zip(images, described, output.attention_maps, strict=True)
    return restyled, [(word_strip(*panel), f"Places of the words: {panel[1]}") for panel in panels]
