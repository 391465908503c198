import warnings

import numpy as np
import pytest

from semantic_edit.disk.telling import in_typed_words, warn_caller


def test_a_warning_points_to_the_caller():
    with pytest.warns(UserWarning, match="^so$") as told:
        warn_caller("so")
    assert told[0].filename == __file__


def test_a_warning_from_deep_inside_of_a_call_points_to_the_call(pipe, picture):
    """Through diffusers' and torch's decorators, and all stages in between."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        pipe(picture, "a table " * 20, mask_image=np.ones((6, 8)), num_inference_steps=2)
    assert {"is longer than", "does not know", "covers the whole picture"} <= {
        part
        for one in told
        for part in ("is longer than", "does not know", "covers the whole picture")
        if part in str(one.message)
    }
    assert {one.filename for one in told} == {__file__}


def test_an_argument_is_called_by_what_is_typed_for_it():
    words = {"inpaint_strength": "--strength", "preserve_background": "--preserve-background"}
    text = "`inpaint_strength` 0.1 of `num_steps`; `preserve_background=True` needs it, `pipe(image=...)` not"
    assert in_typed_words(text, words) == (
        "--strength 0.1 of `num_steps`; --preserve-background needs it, `pipe(image=...)` not"
    )
    labels = {"mask_image": "the mask", "image": "the picture"}
    assert in_typed_words("pass a `mask_image`, or `image`", labels) == "pass a mask, or the picture"
    assert in_typed_words("pass `inpaint_strength=0.5`", words) == "pass --strength 0.5"
    assert (
        in_typed_words("The `text_encoder_2` has no `scheduler`.", {})
        == "The text_encoder_2 has no scheduler."
    )
