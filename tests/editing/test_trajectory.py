import dataclasses

import pytest
import torch
from safetensors.torch import save_file

from semantic_edit.denoisers.schedules import schedule_from_scheduler
from semantic_edit.disk.fitting import KnownModel
from semantic_edit.disk.models import STABLE_DIFFUSION, STABLE_DIFFUSION_XL
from semantic_edit.disk.sealed import sealed
from semantic_edit.editing import trajectory as module
from semantic_edit.editing.trajectory import Trajectory

SIZES = {"original_size": (48, 40), "crops_coords_top_left": (0, 0), "target_size": (48, 40)}


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
        model_family="stable-diffusion-xl",
        sizes=SIZES,
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


def test_files_from_before_a_trajectory_knew_its_family_and_sizes(trajectory, tmp_path, schedule):
    fields = {name: value for name, value in vars(trajectory).items() if name != "latents"}
    del fields["model_family"], fields["sizes"]
    path = tmp_path / "older.safetensors"
    path.write_bytes(sealed(module.TRAJECTORY_FORMAT, fields, {"latents": trajectory.latents}))
    older = Trajectory.load(path)
    assert (older.model_family, older.sizes) == ("", {})
    same = {"fingerprint": trajectory.model_fingerprint, "scaling_factor": trajectory.scaling_factor}
    for family in (STABLE_DIFFUSION, STABLE_DIFFUSION_XL):
        older.check_fits(schedule, 8, KnownModel(family, **same, sizes=SIZES))
    with pytest.raises(ValueError, match="model: trajectory 0123456789abcdef, this call ffff"):
        older.check_fits(schedule, 8, KnownModel(STABLE_DIFFUSION, "ffff"))


@pytest.mark.parametrize("sizes", [[], {"target_size": [1]}, {"target_size": [1, -1]}, {"target_size": 3}])
def test_sizes_in_a_file_that_are_none(trajectory, tmp_path, sizes):
    fields = {name: value for name, value in vars(trajectory).items() if name != "latents"}
    path = tmp_path / "wrong.safetensors"
    written = sealed(module.TRAJECTORY_FORMAT, {**fields, "sizes": sizes}, {"latents": trajectory.latents})
    path.write_bytes(written)
    with pytest.raises(ValueError, match=r"'sizes' of .* names with two numbers of pixels each, got"):
        Trajectory.load(path)


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
    model = KnownModel(STABLE_DIFFUSION_XL, trajectory.model_fingerprint, 0.18215, SIZES)
    trajectory.check_fits(schedule, 8, model, (4, 6, 5), 2)
    trajectory.check_fits(schedule, 3)  # a shorter walk
    trajectory.check_fits(schedule, 8, KnownModel())  # unknown


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"levels": 9}, r"number of levels \(`inpaint_strength`\): trajectory 8, this call 9"),
        ({"latent_shape": (4, 8, 8)}, r"latent shape: trajectory \(4, 6, 5\), this call \(4, 8, 8\)"),
        ({"batch_size": 3}, "number of pictures: trajectory 2, this call 3"),
        (
            {"model": KnownModel(fingerprint="ffff")},
            "model: trajectory 0123456789abcdef, this call ffff",
        ),
        (
            {"model": KnownModel(scaling_factor=0.5)},
            "VAE scaling factor: trajectory 0.18215, this call 0.5",
        ),
        (
            {"model": KnownModel(sizes={**SIZES, "original_size": (96, 80)})},
            r"\(`original_size`: trajectory \(48, 40\), this call \(96, 80\)\)",
        ),
        (
            {"model": KnownModel(STABLE_DIFFUSION, "ffff", 0.5)},
            r"^The `trajectory` was made with a model of another family: it is of SDXL, and this pipeline's model is "
            r"of Stable Diffusion 1\.x and 2\.x\. Use the model that it was made with, in a "
            r"StableDiffusionXLDiffEditPipeline, or leave it out to invert the picture again\.$",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_both_sides(trajectory, schedule, change, message):
    with pytest.raises(ValueError, match=message):
        trajectory.check_fits(**{"schedule": schedule, "levels": 8, **change})


def test_another_schedule_is_refused(trajectory, schedule, scheduler):
    with pytest.raises(ValueError, match="`num_inference_steps`: trajectory 10, this call 20"):
        trajectory.check_fits(schedule_from_scheduler(scheduler, 20), 8)
    scheduler.register_to_config(prediction_type="v_prediction")
    match = (
        r"prediction_type: trajectory epsilon \(as in Stable Diffusion 1\.x and SDXL\), "
        r"this call v_prediction \(as in Stable Diffusion 2\.x at 768 px\)"
    )
    with pytest.raises(ValueError, match=match):
        trajectory.check_fits(schedule_from_scheduler(scheduler, 10), 8)
    scheduler.register_to_config(prediction_type="epsilon", timestep_spacing="trailing")
    with pytest.raises(ValueError, match=r"noise schedule: trajectory \w+, this call \w+"):
        trajectory.check_fits(schedule_from_scheduler(scheduler, 10), 8)


def test_broken_latents_are_refused(trajectory, schedule):
    broken = dataclasses.replace(trajectory, latents=trajectory.latents * float("nan"))
    with pytest.raises(ValueError, match="NaN or infinite"):
        broken.check_fits(schedule, 8)
