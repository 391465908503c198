"""`explain`: a heat map for each word of a prompt, in a picture that nobody learned."""

import numpy as np
import pytest
import torch

from semantic_edit.pipelines import DiffEditPipeline
from semantic_edit.still_life import edit_cases, model_path


@pytest.mark.families("sd", "sdxl")
def test_every_word_gets_a_map_of_the_image_s_size(pipe, picture):
    generator = torch.Generator().manual_seed(0)
    (maps,) = pipe.explain(picture, "a red apple, red", generator).attention_maps
    assert list(maps) == ["a", "red", "apple"]
    for heat in maps.values():
        assert (heat.mode, heat.size) == ("L", picture.size)
        assert np.asarray(heat).max() > 200


@pytest.mark.families("sd", "sdxl")
def test_maps_do_not_depend_on_the_batch(pipe, pictures):
    def maps(images, prompts):
        return pipe.explain(images, prompts, torch.Generator().manual_seed(0)).attention_maps

    both = maps(pictures[:2], ["a red apple", "a mug"])
    for row, prompt in enumerate(["a red apple", "a mug"]):
        (alone,) = maps([pictures[row]], prompt)
        for word, heat in alone.items():
            assert np.abs(np.asarray(heat, int) - np.asarray(both[row][word], int)).max() <= 1


def test_what_it_cannot_explain_is_refused(pipe, picture):
    with pytest.raises(TypeError, match="`explain` takes the arguments of a call, which has no `word`"):
        pipe.explain(picture, "a mug", word="mug")
    embeds = torch.zeros(1, 16, 32)
    with pytest.raises(ValueError, match="needs the `prompt` as text"):
        pipe.explain(picture, None, prompt_embeds=embeds)


def test_the_noun_is_looked_for_in_its_object():
    pipe = DiffEditPipeline.from_pretrained(model_path())
    pipe.set_progress_bar_config(disable=True)
    inside = 0
    cases = [case for case in edit_cases(10, 3, kinds=("object",)) if " and " not in case.source_prompt][:5]
    for case in cases:
        changed = set(case.prompt.split())
        heats = pipe.explain(case.image, case.source_prompt, torch.Generator().manual_seed(0)).attention_maps[
            0
        ]
        mask = np.asarray(case.changed_mask)
        word = next(word for word in heats if word not in changed)
        row, column = np.unravel_index(np.asarray(heats[word]).argmax(), mask.shape)
        inside += bool(mask[row, column])
    assert inside == 5
