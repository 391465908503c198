"""What callbacks get and change, however the image is encoded."""

import pytest
import torch
from torch.testing import assert_close

from tests.flow.conftest import of_flows
from tests.flow.sd3 import SD3

BOTH = ["latents", "prompt_embeds", "negative_prompt_embeds"]


@of_flows(SD3)
@pytest.mark.parametrize("encoding", ["inversion", "flowedit"])
def test_prompts_that_a_callback_returns_are_used(family, pipe, edit, encoding):
    def silence(_pipe, _step, _timestep, tensors):
        return {"prompt_embeds": torch.zeros_like(tensors["prompt_embeds"])}

    told = {"encoding": encoding, "callback_on_step_end_tensor_inputs": BOTH}
    changed = edit(pipe, **told, callback_on_step_end=silence)
    assert (changed - edit(pipe, **told)).abs().max() > 1e-3


@pytest.mark.parametrize("family", [SD3], indirect=True, ids=str)
@pytest.mark.parametrize("encoding", ["inversion", "flowedit"])
def test_a_callback_reads_and_ends_guidance(family, pipe, edit, encoding):
    seen = []

    def end(pipe, step, *_):
        seen.append(pipe.guidance_scale)
        pipe._guidance_scale = 1.0

    told = {"encoding": encoding, "guidance_scale": 9.0}
    ended = edit(pipe, **told, callback_on_step_end=end)
    assert seen[0] == 9.0
    assert set(seen[1:]) == {1.0}
    assert (ended - edit(pipe, **told)).abs().max() > 1e-3


@pytest.mark.parametrize("family", [SD3], indirect=True, ids=str)
def test_a_callback_of_flowedit_reads_the_usual_guidance_of_the_target(family, pipe, edit):
    seen = []
    edit(pipe, encoding="flowedit", callback_on_step_end=lambda pipe, *_: seen.append(pipe.guidance_scale))
    assert set(seen) == {13.5}


@of_flows(SD3)
@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        (
            lambda given: {"prompt_embeds": torch.cat([given["prompt_embeds"]] * 2, dim=1)},
            "prompts that do not match in their numbers of tokens: ",
        ),
        (lambda given: {"negative_prompt_embeds": "a mug"}, "'a mug' for `negative_prompt_embeds`"),
    ],
)
def test_prompts_that_no_network_can_take_together_are_refused(family, pipe, edit, returned, reason):
    told = dict(family.guidance)
    if "true_cfg_scale" in told:
        told["negative_prompt"] = "a mug"
    with pytest.raises(ValueError, match=f"`callback_on_step_end` returned {reason}"):
        edit(
            pipe,
            **told,
            callback_on_step_end_tensor_inputs=BOTH,
            callback_on_step_end=lambda _pipe, _step, _timestep, given: returned(given),
        )


@of_flows(SD3)
def test_copies_of_flowedit_are_alike(family, pipe, edit):
    """As those of other encodings are, whether one generator draws the noise or one for each edit."""
    generators = [torch.Generator().manual_seed(0)]
    copies = edit(pipe, encoding="flowedit", num_images_per_prompt=2, generator=generators)
    once = edit(pipe, encoding="flowedit")
    assert_close(copies, once.expand(2, -1, -1, -1), rtol=0, atol=1e-4)


@pytest.mark.parametrize("family", [SD3], indirect=True, ids=str)
@pytest.mark.parametrize(("name", "value"), [("guidance_stop", 0.5), ("guidance_rescale", 0.7)])
def test_guidance_that_flowedit_does_not_have_is_refused(family, pipe, edit, name, value):
    with pytest.raises(ValueError, match=f'`{name}` does not go with `encoding="flowedit"`'):
        edit(pipe, encoding="flowedit", **{name: value})
