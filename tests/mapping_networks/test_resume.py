import dataclasses
import json
import os

import pytest
import torch

from semantic_edit.disk import writing
from semantic_edit.disk.sealed import read_sealed, sealed
from semantic_edit.mapping_networks import LearningSettings, checkpoint

SETTINGS = dataclasses.replace(LearningSettings.short(), stop_below=0.2)  # some pictures stop early
pytestmark = pytest.mark.filterwarnings("ignore:The learning did not converge")


class Killed(BaseException):
    """An exception that nothing catches, like a kill."""


def kill_at(number):
    def before_call(call):
        if call == number:
            raise Killed

    return before_call


def learn(toy, folder=None, **changes):
    return toy.learn(**{"settings": SETTINGS, "checkpoint": folder, **changes})


def assert_same_bits(first, second):
    assert torch.equal(first.latents, second.latents)
    assert first.parameters.keys() == second.parameters.keys()
    for name, value in first.parameters.items():
        assert torch.equal(value, second.parameters[name]), name
    for one, other in zip(first.report.steps, second.report.steps, strict=True):
        assert dataclasses.replace(one, seconds=0.0) == dataclasses.replace(other, seconds=0.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_checkpoint_changes_nothing(make_toy, tmp_path, dtype):
    toy = make_toy(images=2, dtype=dtype)
    assert_same_bits(learn(toy, tmp_path / "run"), learn(toy))


def test_killed_anywhere_it_ends_with_the_same_bits(make_toy, tmp_path):
    toy = make_toy(images=3)
    expected = learn(toy)
    calls = len(toy.calls)
    for number in range(calls):
        folder = tmp_path / str(number)
        toy.calls.clear()
        toy.before_call = kill_at(number)
        with pytest.raises(Killed):
            learn(toy, folder)
        toy.before_call, done = None, len(list(folder.glob("step-*.safetensors")))
        toy.calls.clear()
        assert_same_bits(learn(toy, folder), expected)
        assert toy.calls[0][:2] == ("unconditional", toy.levels - done)


def test_killed_at_every_level_in_a_row(make_toy, tmp_path):
    toy = make_toy(images=2)
    expected = learn(toy)
    for level in range(toy.levels - 1, 0, -1):

        def before_call(call, level=level):
            if call and toy.calls[-1][1] == level:  # a call after the level's first one
                raise Killed

        toy.calls.clear()
        toy.before_call = before_call
        with pytest.raises(Killed):
            learn(toy, tmp_path)
    toy.before_call = None
    assert_same_bits(learn(toy, tmp_path), expected)


@pytest.mark.parametrize("error", [KeyboardInterrupt, Killed])
def test_killed_while_writing_it_leaves_the_last_step_whole(make_toy, tmp_path, monkeypatch, error):
    toy = make_toy()
    expected = learn(toy)
    write_all, written = writing._write_all, []

    def interrupted(file, content):
        if len(written) == 3:  # the inputs and two steps
            file.write(b"half")
            raise error
        written.append(content)
        write_all(file, content)

    monkeypatch.setattr(writing, "_write_all", interrupted)
    with pytest.raises(error):
        learn(toy, tmp_path)
    monkeypatch.undo()
    assert sorted(os.listdir(tmp_path)) == ["inputs.json", "step-0000.safetensors", "step-0001.safetensors"]
    assert_same_bits(learn(toy, tmp_path), expected)


def test_killed_at_any_event_of_the_disk_it_ends_with_the_same_bits(make_toy, tmp_path, killed_anywhere):
    toy = make_toy()
    expected = learn(toy)
    moments = killed_anywhere(tmp_path / "kept", lambda: learn(toy, tmp_path / "kept"))
    assert len(moments) > 10
    for left in moments[::3]:
        assert_same_bits(learn(toy, left), expected)
        assert all(name.startswith(("inputs", "step-")) for name in os.listdir(left))


def test_a_finished_run_is_reused_at_once(make_toy, tmp_path):
    toy, seen = make_toy(), []
    expected = learn(toy, tmp_path)
    toy.calls.clear()
    assert_same_bits(learn(toy, tmp_path, on_step=seen.append), expected)
    assert toy.calls == []
    assert tuple(seen) == expected.report.steps  # to the last bit of the seconds


def test_an_error_in_the_callers_callback_loses_nothing(make_toy, tmp_path):
    toy = make_toy()

    def on_step(report):
        if report.step == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn(toy, tmp_path, on_step=on_step)
    assert len(list(tmp_path.glob("step-*.safetensors"))) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"settings": dataclasses.replace(SETTINGS, learning_rate=0.02)},
            r"another run of learning \(settings.learning_rate: checkpoint 0.003, this call 0.02\)",
        ),
        ({"guidance_scale": 3.0}, "guidance_scale: checkpoint 7.5, this call 3.0"),
        ({"variant": "direct"}, "variant: checkpoint 'modulate', this call 'direct'"),
        ({"identity": {"model": "cd"}}, "identity.model: checkpoint 'ab', this call 'cd'"),
        ({"identity": {}}, "identity.model: checkpoint 'ab', this call None"),
        ({"text_embeds": torch.ones(1, 4, 6)}, r"text_embeds: checkpoint '\w{16}', this call '\w{16}'"),
        ({"image_tokens": torch.ones(1, 5, 7)}, "image_tokens: checkpoint"),
        ({"trajectory": torch.ones(5, 1, 2, 2, 3)}, "trajectory: checkpoint"),
    ],
)
def test_another_learnings_checkpoint_is_refused(make_toy, tmp_path, change, message):
    toy = make_toy()
    learn(toy, tmp_path, identity={"model": "ab"})
    with pytest.raises(ValueError, match=message):
        learn(toy, tmp_path, **{"identity": {"model": "ab"}, **change})


def test_a_damaged_step_is_refused(make_toy, tmp_path):
    toy = make_toy()
    learn(toy, tmp_path)
    (tmp_path / "step-0002.safetensors").write_bytes(b"half")
    with pytest.raises(
        ValueError, match=r"step-0002\.safetensors' cannot be read .* Remove it to resume from"
    ):
        learn(toy, tmp_path)


def test_a_changed_byte_of_a_step_is_noticed_wherever_it_is(make_toy, tmp_path):
    toy = make_toy()
    learn(toy, tmp_path)
    path = tmp_path / "step-0001.safetensors"
    content = path.read_bytes()
    for index in range(0, len(content), 97):
        path.write_bytes(content[:index] + bytes([content[index] ^ 1]) + content[index + 1 :])
        with pytest.raises(ValueError, match=r"step-0001\.safetensors' .* Remove it"):
            learn(toy, tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors, fields: tensors.update(latents=tensors["latents"] * float("nan")),
        lambda tensors, fields: tensors.update(latents=tensors["latents"].double()),
        lambda tensors, fields: tensors.update(latents=tensors["latents"][:, :1].contiguous()),
        lambda tensors, fields: tensors.update(more=tensors["latents"].clone()),
        lambda tensors, fields: tensors.pop("conv_in_weight"),
        lambda tensors, fields: fields.update(step=2),
        lambda tensors, fields: fields.update(inputs_digest="0" * 32),
        lambda tensors, fields: fields.update(updates=[1, 1]),
    ],
)
def test_a_step_of_another_learning_is_refused_although_it_is_whole(make_toy, tmp_path, change):
    toy = make_toy()
    learn(toy, tmp_path)
    path = tmp_path / "step-0001.safetensors"
    fields, tensors = read_sealed(path, checkpoint.STEP_FORMAT, checkpoint.STEP_RULES, "step")
    change(tensors, fields)
    path.write_bytes(sealed(checkpoint.STEP_FORMAT, fields, tensors))
    with pytest.raises(
        ValueError, match=r"step-0001\.safetensors' is not step 1 of this run of learning\. Remove it"
    ):
        learn(toy, tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000])
def test_inputs_that_cannot_be_read_are_named(make_toy, tmp_path, text):
    (tmp_path / "inputs.json").write_text(text)
    with pytest.raises(ValueError, match=r"inputs\.json' (is|must)"):
        learn(make_toy(), tmp_path)


def test_two_learnings_do_not_share_a_checkpoint(make_toy, tmp_path):
    toy = make_toy()

    def again(call):
        if call == 3:
            with pytest.raises(ValueError, match=f"is in use by process {os.getpid()}"):
                learn(make_toy(), tmp_path)

    toy.before_call = again
    learn(toy, tmp_path)


def test_what_a_checkpoint_is_of_can_be_read(make_toy, tmp_path):
    learn(make_toy(), tmp_path, identity={"model": "ab"})
    stored = json.loads((tmp_path / "inputs.json").read_text())
    assert stored["settings.inner_steps"] == LearningSettings.short().inner_steps
    assert stored["identity.model"] == "ab"
