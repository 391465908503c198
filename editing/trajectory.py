"""A picture's inversion as an object that can be kept, saved and used again."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from semantic_edit.disk.fitting import (
    KnownModel,
    check_agrees,
    compared_if_known,
    compared_models,
    compared_schedules,
    compared_sizes,
)
from semantic_edit.disk.frames import FRAME_RULE
from semantic_edit.disk.models import check_same_family
from semantic_edit.disk.reading import (
    Rule,
    one_of,
    or_none,
    plain_text,
    real_number,
    rising,
    several,
    whole_number,
)
from semantic_edit.disk.sealed import read_sealed, sealed
from semantic_edit.disk.sizes import SIZES_RULE, Sizes
from semantic_edit.disk.writing import write_file
from semantic_edit.editing.frames import Frame
from semantic_edit.editing.schedule import PREDICTION_TYPES, Schedule
from semantic_edit.editing.summaries import Summarised

TRAJECTORY_FORMAT = "semantic_edit.trajectory/4"
TRAJECTORY_RULES: dict[str, Rule] = {  # for the fields of a file, besides the latents
    "timesteps": rising(highest=1_000_000, are_whole=False),
    "num_inference_steps": whole_number(1, 1_000_000),
    "strength": real_number(0, 1),
    "prediction_type": one_of(*PREDICTION_TYPES),
    "schedule_fingerprint": plain_text(longest=1000),
    "model_fingerprint": plain_text(longest=1000),
    "scaling_factor": real_number(1e-6, 1e6),
    "guidance_scale": real_number(0, 1e6),
    "prompts": or_none(several(plain_text(), 0, 100_000)),
    "frames": several(FRAME_RULE, 0, 100_000),
    "model_family": plain_text(longest=100),
    "sizes": SIZES_RULE,
}
TRAJECTORY_LATER = {"model_family": "", "sizes": {}}  # what the first files do not say


@dataclass(frozen=True, eq=False, repr=False)
class Trajectory(Summarised):
    """The latents of a DDIM inversion, from the clean picture to its noisiest level, and how they were made.

    latents: (levels + 1, batch, channels, height, width) in float32; `latents[k]` is level `k`, and `latents[0]` is the
        picture's own latent, scaled by `scaling_factor`.
    timesteps: The model's timestep of each level from 1 on, least noisy first; `levels` of them.
    num_inference_steps: Number of steps of the whole schedule, of which `timesteps` is the beginning.
    strength: The requested fraction of that schedule (the papers' encoding ratio).
    prediction_type: One of `PREDICTION_TYPES`.
    schedule_fingerprint: `Schedule.fingerprint` of the whole schedule.
    model_fingerprint: Of the denoising model, or "" if unknown; a "+" is followed by the adapters that were active.
    scaling_factor: The VAE's.
    guidance_scale: Guidance during the inversion; 1.0 means none.
    prompts: The prompts of the inversion, or `None` if embeddings were given.
    frames: Which part of each picture was inverted, and at what size; () if only latents were given.
    model_family: The name of the model's family, for example "stable-diffusion-xl", or "" if unknown.
    sizes: The sizes that conditioned the model besides its prompts, (height, width) or (top, left), by argument name;
        {} if there were none, or they are unknown.
    """

    latents: torch.Tensor
    timesteps: tuple[float, ...]
    num_inference_steps: int
    strength: float
    prediction_type: str
    schedule_fingerprint: str
    model_fingerprint: str = ""
    scaling_factor: float = 1.0
    guidance_scale: float = 1.0
    prompts: tuple[str, ...] | None = None
    frames: tuple[Frame, ...] = ()
    model_family: str = ""
    sizes: Sizes = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.latents.ndim != 5 or self.latents.shape[0] != len(self.timesteps) + 1:
            raise ValueError(
                f"A trajectory of {len(self.timesteps)} timesteps needs latents of shape "
                f"({len(self.timesteps) + 1}, batch, channels, height, width), got "
                f"{tuple(self.latents.shape)}."
            )

    @property
    def levels(self) -> int:
        """The number of inversion steps; level `levels` is the noisiest."""
        return len(self.timesteps)

    @property
    def batch_size(self) -> int:
        """The number of pictures."""
        return self.latents.shape[1]

    def split(self) -> tuple[Trajectory, ...]:
        """A trajectory for each picture."""
        return tuple(
            dataclasses.replace(
                self, latents=latents, frames=self.frames and (self.frames[row % len(self.frames)],)
            )
            for row, latents in enumerate(self.latents.split(1, dim=1))
        )

    def filled(self, latents: torch.Tensor) -> Trajectory:
        """The same trajectory with other latents, for all of its levels."""
        return dataclasses.replace(self, latents=latents)

    def to(self, device: str | torch.device) -> Trajectory:
        """The same trajectory with its latents on another device."""
        return self.filled(self.latents.to(device))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file; a reader sees either the old or the new file, always complete.

        Args:
            path: The file.

        Raises:
            OSError: Naming the file, if it cannot be written.
        """
        write_file(path, self.to_bytes())

    def to_bytes(self) -> bytes:
        """The content of the file that `save` writes."""
        fields = dataclasses.asdict(dataclasses.replace(self, latents=self.latents[:, :0]))
        del fields["latents"]
        fields["frames"] = [frame.stored() for frame in self.frames]
        return sealed(TRAJECTORY_FORMAT, fields, {"latents": self.latents})

    @classmethod
    def load(cls, path: str | os.PathLike[str], device: str | torch.device = "cpu") -> Trajectory:
        """Read what `save` wrote.

        Args:
            path: The file.
            device: Where to put the latents.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: Naming the file, if it is not a trajectory, has another format version, or was damaged or
                changed.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"There is no trajectory file at {os.fspath(path)!r}.")
        fields, tensors = read_sealed(
            path, TRAJECTORY_FORMAT, TRAJECTORY_RULES, "trajectory", TRAJECTORY_LATER
        )
        if tensors.keys() != {"latents"} or not torch.isfinite(tensors["latents"]).all():
            raise ValueError(
                f"The trajectory {os.fspath(path)!r} must hold finite latents and no other tensors."
            )
        fields["timesteps"] = tuple(fields["timesteps"])
        fields["prompts"] = None if fields["prompts"] is None else tuple(fields["prompts"])
        fields["sizes"] = {name: tuple(pair) for name, pair in fields["sizes"].items()}
        try:
            fields["frames"] = tuple(map(Frame.read, fields["frames"]))
        except ValueError as error:
            raise ValueError(f"The trajectory {os.fspath(path)!r} cannot be read. {error}") from error
        return cls(latents=tensors["latents"].to(device), **fields)

    def check_fits(
        self,
        schedule: Schedule,
        levels: int,
        model: KnownModel | None = None,
        latent_shape: Sequence[int] | None = None,
        batch_size: int | None = None,
    ) -> None:
        """Raise unless the trajectory fits a call.

        Args:
            schedule: The call's whole schedule.
            levels: Number of levels that the call walks; a longer trajectory fits a shorter walk.
            model: The call's model; only what is known of both is compared.
            latent_shape: The call's (channels, height, width), if known.
            batch_size: The call's number of edits; a trajectory of one picture fits any number.

        Raises:
            ValueError: Naming what differs, with the trajectory's value and the call's.
        """
        model = model or KnownModel()
        check_same_family(
            "trajectory",
            self.model_family,
            model.family,
            "diffedit",
            "leave it out to invert the picture again",
        )
        kept = (self.num_inference_steps, self.prediction_type, self.schedule_fingerprint)
        compared = compared_schedules(kept, schedule)
        if self.levels < levels:
            compared.append(("number of levels (`inpaint_strength`)", self.levels, levels))
        shape = latent_shape and tuple(latent_shape)
        compared += compared_if_known("latent shape", tuple(self.latents.shape[2:]), shape)
        if self.batch_size != 1:
            compared += compared_if_known("number of pictures", self.batch_size, batch_size)
        compared += compared_models("model", self.model_fingerprint, model.fingerprint)
        compared += compared_if_known("VAE scaling factor", self.scaling_factor, model.scaling_factor)
        compared += compared_sizes(self.sizes, model.sizes)
        check_agrees(
            "trajectory",
            compared,
            "Call with the settings that it was made with, or leave it out to invert the picture again.",
        )
        if not torch.isfinite(self.latents).all():
            raise ValueError("The `trajectory` holds NaN or infinite values; invert the picture again.")
