import dataclasses

import pytest
import torch
from safetensors.torch import save_file

from semantic_edit.denoisers.schedules import schedule_from_scheduler
from semantic_edit.editing import trajectory as module
from semantic_edit.editing.trajectory import Trajectory


@pytest.fixture
def schedule(scheduler):
    return schedule_from_scheduler(scheduler, 10)


@pytest.fixture
def trajectory(schedule):
    return Trajectory(
        latents=torch.randn(9, 2, 4, 6, 5, generator=torch.Generator().manual_seed(0)),
        timesteps=schedule.timesteps[:8],
        num_inference_steps=10,
        strength=0.8,
        prediction_type=schedule.prediction_type,
        schedule_fingerprint=schedule.fingerprint,
        model_fingerprint="0123456789abcdef",
        scaling_factor=0.18215,
        guidance_scale=1.0,
        prompts=("",),
    )


def test_saving_and_loading_give_the_same_value(trajectory, tmp_path):
    path = tmp_path / "apple.safetensors"
    trajectory.save(path)
    loaded = Trajectory.load(path)
    assert torch.equal(loaded.latents, trajectory.latents)
    for field in dataclasses.fields(Trajectory):
        if field.name != "latents":
            assert getattr(loaded, field.name) == getattr(trajectory, field.name), field.name
    assert [file.name for file in tmp_path.iterdir()] == ["apple.safetensors"]


def test_an_interrupted_save_leaves_the_old_file(trajectory, tmp_path, monkeypatch):
    path = tmp_path / "apple.safetensors"
    trajectory.save(path)
    before = path.read_bytes()

    def interrupted(written, destination):
        assert written.exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(module.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trajectory.save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["apple.safetensors"]


def test_what_is_no_trajectory_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no trajectory file at"):
        Trajectory.load(tmp_path / "missing.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(ValueError, match="cannot be read as a safetensors file"):
        Trajectory.load(tmp_path / "text.safetensors")
    save_file({"latents": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"is not a trajectory: its format is None"):
        Trajectory.load(tmp_path / "other.safetensors")


def test_shapes_are_checked(trajectory):
    with pytest.raises(ValueError, match=r"8 timesteps needs latents of shape \(9, .* got \(8, 2, 4, 6, 5\)"):
        dataclasses.replace(trajectory, latents=trajectory.latents[1:])


def test_what_it_was_made_for_fits(trajectory, schedule):
    model = trajectory.model_fingerprint
    trajectory.check_fits(schedule, 8, (4, 6, 5), 2, model, 0.18215)
    trajectory.check_fits(schedule, 3)  # a shorter walk
    trajectory.check_fits(schedule, 8, model="")  # unknown


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"levels": 9}, r"number of levels \(`inpaint_strength`\): trajectory 8, this call 9"),
        ({"latent_shape": (4, 8, 8)}, r"latent shape: trajectory \(4, 6, 5\), this call \(4, 8, 8\)"),
        ({"batch_size": 3}, "number of pictures: trajectory 2, this call 3"),
        ({"model": "ffff"}, "model: trajectory 0123456789abcdef, this call ffff"),
        ({"scaling_factor": 0.5}, "VAE scaling factor: trajectory 0.18215, this call 0.5"),
    ],
)
def test_what_does_not_fit_is_refused_with_both_sides(trajectory, schedule, change, message):
    with pytest.raises(ValueError, match=message):
        trajectory.check_fits(**{"schedule": schedule, "levels": 8, **change})


def test_another_schedule_is_refused(trajectory, schedule, scheduler):
    with pytest.raises(ValueError, match="`num_inference_steps`: trajectory 10, this call 20"):
        trajectory.check_fits(schedule_from_scheduler(scheduler, 20), 8)
    scheduler.register_to_config(prediction_type="v_prediction")
    with pytest.raises(ValueError, match="prediction_type: trajectory epsilon, this call v_prediction"):
        trajectory.check_fits(schedule_from_scheduler(scheduler, 10), 8)
    scheduler.register_to_config(prediction_type="epsilon", timestep_spacing="trailing")
    with pytest.raises(ValueError, match=r"noise schedule: trajectory \w+, this call \w+"):
        trajectory.check_fits(schedule_from_scheduler(scheduler, 10), 8)


def test_broken_latents_are_refused(trajectory, schedule):
    broken = dataclasses.replace(trajectory, latents=trajectory.latents * float("nan"))
    with pytest.raises(ValueError, match="NaN or infinite"):
        broken.check_fits(schedule, 8)
