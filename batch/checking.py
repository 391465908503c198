"""What a pipeline would say against a row, asked before any work: without the pixels, and without the network."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from PIL import Image

from semantic_edit.batch.hearing import heard_warnings, listening
from semantic_edit.batch.options import BY_WORD
from semantic_edit.batch.planning import Size
from semantic_edit.batch.rows import Row
from semantic_edit.datasets.items import RowError
from semantic_edit.denoisers import denoiser_of
from semantic_edit.editing.frames import working_size
from semantic_edit.pipelines.options import read_edit_options
from semantic_edit.pipelines.request import read_edit_request
from semantic_edit.pipelines.settling import check_mask_shape
from semantic_edit.pipelines.views import read_size
from semantic_edit.pipelines.words import RestyleSettings, read_prompt_rows

OF_WORDS = (*BY_WORD, "edit_type")
"""Options that fit the words of some rows and not of others."""


@dataclass(eq=False)
class Checker:
    """Asks about each kind of rows once: rows with the same options whose pictures the model sees at one size.

    pipe: The pipeline.
    ask: Raises if it would refuse a row with these options, seen at this size.
    """

    pipe: Any
    ask: Callable[[Row, Mapping[str, Any], Size], None]
    passed: set[int] = field(default_factory=set)

    def check(self, row: Row, options: Mapping[str, Any], size: Size) -> None:
        """Raise if a row's edit would be refused.

        Args:
            row: The row.
            options: Its own and those of the whole batch.
            size: Of its picture.

        Raises:
            RowError: Saying what is wrong with the row.
            ValueError: If what is wrong is an option of the whole batch.
        """
        denoiser = denoiser_of(self.pipe)
        seen = working_size(size, denoiser.own_size, denoiser.multiple)
        words = (row.source_prompt, row.prompt) if any(name in options for name in OF_WORDS) else ()
        kind = hash((json.dumps(options, sort_keys=True), seen, row.mask is None, words))
        try:
            if row.mask is not None:
                check_mask_shape(row.mask.size(), size)
            if kind not in self.passed:
                with listening(), heard_warnings():  # the edit itself will say them again
                    self.ask(row, options, seen)
        except (ValueError, TypeError) as error:
            if not row.options and row.mask is None:
                raise ValueError(str(error)) from None
            raise RowError(str(error).rstrip(".")) from None
        self.passed.add(kind)


def edit_checker(pipe: Any) -> Checker:
    """For a DiffEdit pipeline."""
    usual = {name: one.default for name, one in inspect.signature(pipe.__call__).parameters.items()}

    def ask(row: Row, options: Mapping[str, Any], size: Size) -> None:
        if unknown := sorted(options.keys() - usual.keys()):
            raise ValueError(f"`{unknown[0]}` is no option of {type(pipe).__name__}; leave it out")
        own = {"prompt": [row.prompt], "source_prompt": [row.source_prompt], "image": Image.new("RGB", size)}
        if row.mask is not None:
            own["mask_image"] = Image.new("L", size, 255)
        given = {**usual, **options, **own}
        denoiser, given = pipe._denoiser(given), pipe._in_common_terms(given)
        read_edit_request(denoiser, read_edit_options(denoiser, given))

    return Checker(pipe, ask)


def restyle_checker(pipe: Any) -> Checker:
    """For a StyleDiffusion pipeline."""

    def ask(row: Row, options: Mapping[str, Any], size: Size) -> None:
        denoiser = denoiser_of(pipe)
        if "num_inference_steps" in options:
            denoiser.schedule(options["num_inference_steps"])
        read_size(options.get("height"), options.get("width"), denoiser.multiple)
        settings = RestyleSettings.of({one.name: options.get(one.name) for one in fields(RestyleSettings)})
        read_prompt_rows([denoiser.tokens(text) for text in (row.source_prompt, row.prompt)], settings)

    return Checker(pipe, ask)
