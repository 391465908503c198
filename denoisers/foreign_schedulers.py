"""Schedulers that reveal models which share SDXL's layout but cannot be inverted as SDXL can."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FEW_STEP_SCHEDULERS = {
    "LCMScheduler": "latent consistency models",
    "TCDScheduler": "models distilled by trajectory consistency, Hyper-SD among them",
}


def check_own_scheduler(scheduler: Any) -> None:
    """Raise if a scheduler shows that its model is of another kind; schedulers that show nothing of the sort pass.

    SDXL Lightning's scheduler passes: an Euler scheduler with trailing timesteps also suits the base model.

    Args:
        scheduler: The pipeline's.

    Raises:
        ValueError: If it is an EDM-style scheduler, or one for distilled few-step models: SDXL Turbo, LCM, TCD.
    """
    config = getattr(scheduler, "config", None)
    if not isinstance(config, Mapping):
        return  # `schedule_from_scheduler` raises for these
    lineage = [cls.__name__ for cls in type(scheduler).__mro__]
    # with both of these, diffusers' Euler scheduler passes the model a quarter of the noise level's logarithm
    is_continuous = (config.get("timestep_type"), config.get("prediction_type")) == (
        "continuous",
        "v_prediction",
    )
    if "sigma_data" in config or is_continuous:
        raise ValueError(
            f"The scheduler, {lineage[0]}, is of the EDM kind, as in Playground 2.5 and CosXL: their UNets receive "
            "noise levels in other units, and their latents are scaled differently, so an edit cannot invert them. "
            "Use an SDXL model with a usual scheduler, such as EulerDiscreteScheduler or DDIMScheduler."
        )
    kind = next((FEW_STEP_SCHEDULERS[name] for name in lineage if name in FEW_STEP_SCHEDULERS), None)
    if "EulerAncestralDiscreteScheduler" in lineage and config.get("timestep_spacing") == "trailing":
        kind = "SDXL Turbo"
    if kind is not None:
        raise ValueError(
            f"The scheduler, {lineage[0]}, is that of {kind}. A model that was distilled to a few steps does "
            "not follow the path along which a picture is inverted. Use the SDXL model that it was distilled from; if "
            "only a LoRA makes the difference, call `unload_lora_weights()` and load the base model's scheduler again."
        )
