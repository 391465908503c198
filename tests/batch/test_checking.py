"""What a pipeline would refuse is known before any work, by the same words, and without looking at pixels."""

from __future__ import annotations

import re

import pytest
from PIL import Image

from semantic_edit.batch.diffedit import DiffEditor
from semantic_edit.batch.restyle import Restyler
from semantic_edit.batch.sources import DataChoice, open_source
from semantic_edit.batch.team import ALONE
from semantic_edit.datasets.items import RowError
from semantic_edit.denoisers import denoiser_of
from semantic_edit.editing.frames import working_size
from semantic_edit.mapping_networks import LearningSettings
from semantic_edit.pipelines import StableDiffusion3DiffEditPipeline, pipeline_around
from tests.flow.sd3 import make_sd3

SIZE = (64, 64)


@pytest.fixture
def row_of(make_table):
    def read(method="diffedit", **options):
        row = {"source_prompt": "a red apple", "prompt": "a green apple", **options}
        (only,) = open_source(DataChoice(str(make_table(1, **row))), method, ALONE).read()
        return only

    return read


@pytest.fixture
def unseen(pipe, monkeypatch):
    """An editor whose networks must not be evaluated."""
    for part in (pipe.unet, pipe.vae, pipe.text_encoder):
        monkeypatch.setattr(part, "forward", None)
    return lambda **options: DiffEditor(pipe, options)


REFUSED = [
    ({"height": 64}, "Pass both `height` and `width`, or neither, got 64 and None"),
    ({"height": 63, "width": 64}, "but the model takes only multiples of"),
    ({"num_inference_steps": 1}, "`inpaint_strength` 0.8 of `num_inference_steps` 1 is less than one step"),
    ({"encoding": "flowedit"}, "`encoding='flowedit'`"),
    ({"local_blend": "apple"}, "`local_blend` is no option of DiffEditPipeline"),
    ({"true_cfg_scale": 3.0}, "`true_cfg_scale` is no option of DiffEditPipeline"),
    ({"mask_encode_strength": 0.01}, "`mask_encode_strength` 0.01 of `num_inference_steps`"),
]


@pytest.mark.parametrize(("options", "reason"), REFUSED)
def test_an_edit_that_would_be_refused_is_refused_before(unseen, row_of, options, reason):
    with pytest.raises(RowError, match=re.escape(reason)) as refused:
        unseen().check(row_of(**options), SIZE)
    assert not str(refused.value).endswith(".")  # others add what follows


def test_a_row_fits_with_what_was_typed_for_the_whole_batch(unseen, row_of):
    unseen(width=64, height=64).check(row_of(height=128), SIZE)
    unseen(num_inference_steps=1).check(row_of(inpaint_strength=1.0, mask_encode_strength=1.0), SIZE)


def test_words_are_looked_for_in_each_row_s_own_prompts(row_of):
    flow = pipeline_around(StableDiffusion3DiffEditPipeline, make_sd3(third=False))
    editor = DiffEditor(flow, {"local_blend": "green"})
    editor.check(row_of(), SIZE)
    with pytest.raises(RowError, match="`local_blend` does not fit the prompts"):
        editor.check(row_of(prompt="a blue apple", focus=False), SIZE)


def test_what_is_wrong_with_the_whole_batch_is_no_row_s_fault(unseen, row_of):
    with pytest.raises(ValueError, match="less than one step") as refused:
        unseen(num_inference_steps=1).check(row_of(), SIZE)
    assert not isinstance(refused.value, RowError)


def test_rows_of_one_kind_are_asked_about_once(unseen, row_of):
    editor, asked = unseen(), []
    seen = (denoiser_of(editor.pipe).own_size, denoiser_of(editor.pipe).multiple)
    ask = editor._checker.ask
    editor._checker.ask = lambda *given: asked.append(given) or ask(*given)
    for size in (SIZE, SIZE, (640, 640), (64, 32)):
        editor.check(row_of(mask_grow=2), size)
    assert [size for *_, size in asked] == [working_size(size, *seen) for size in (SIZE, (64, 32))]
    for _ in range(2):
        with pytest.raises(RowError):
            editor.check(row_of(height=63), SIZE)


def test_a_mask_of_another_shape_is_refused_by_its_header(unseen, row_of, tmp_path):
    (tmp_path / "data").mkdir()
    Image.new("L", (32, 64), 255).save(tmp_path / "data" / "tall.png")
    Image.new("L", (32, 32), 255).save(tmp_path / "data" / "small.png")
    with pytest.raises(
        RowError, match="`mask_image` is 32 x 64 and the picture 64 x 64, which is another shape"
    ):
        unseen().check(row_of(mask_image="tall.png"), SIZE)
    unseen().check(row_of(mask_image="small.png"), SIZE)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"width": 64}, "Pass both `height` and `width`, or neither"),
        ({"height": 63, "width": 64}, "but the model takes only multiples of"),
        ({"reweight": {"zebra": 2}}, "`reweight` does not fit the prompts"),
        ({"reweight": {"apple": 1e9}}, "`reweight['apple']` must be a number"),
        ({"local_blend": ["zebra"]}, "`local_blend` does not fit the prompts"),
        (
            {"edit_type": "replace", "prompt": "a green apple on grass"},
            "Replacing needs prompts with equally many",
        ),
    ],
)
def test_a_restyle_that_would_be_refused_is_refused_before(style_pipe, row_of, options, reason):
    editor = Restyler(style_pipe, {}, LearningSettings())
    with pytest.raises(RowError, match=re.escape(reason)):
        editor.check(row_of("restyle", **options), SIZE)
    editor.check(row_of("restyle", reweight={"apple": 2}), SIZE)
