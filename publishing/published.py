"""Which pipelines are published; imported at every start of the command line, so it imports nothing slow."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """A pipeline under the name by which diffusers finds its file.

    call: How it is called, for the head of the file.
    """

    module: str
    class_name: str
    call: str


PIPELINES = {
    "diffedit": Published(
        "semantic_edit.pipelines.diffedit",
        "DiffEditPipeline",
        'edit = pipe(image=picture, source_prompt="a bowl of apples", prompt="a bowl of pears")',
    ),
    "stylediffusion": Published(
        "semantic_edit.pipelines.stylediffusion",
        "StyleDiffusionPipeline",
        'learned = pipe.learn_mapping(picture, "a dog"); edit = pipe("a tiger", mapping_network=learned)',
    ),
}
