"""Schedulers by which models are known that share SDXL's layout, and cannot be inverted as SDXL can."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FEW_STEP_SCHEDULERS = {
    "LCMScheduler": "latent consistency models",
    "TCDScheduler": "models distilled by trajectory consistency, Hyper-SD among them",
}


def check_own_scheduler(scheduler: Any) -> None:
    """Refuse a scheduler that says that its model is of another kind; those that say nothing of it pass.

    SDXL Lightning's is one of these: its Euler scheduler with trailing timesteps suits the base model too.

    Raises:
        ValueError: If it is an EDM-style scheduler, or one of distilled few-step models: SDXL Turbo, LCM, TCD.
    """
    config = getattr(scheduler, "config", None)
    if not isinstance(config, Mapping):
        return  # which `schedule_from_scheduler` refuses
    lineage = [cls.__name__ for cls in type(scheduler).__mro__]
    # with both of these diffusers' Euler scheduler tells the model a quarter of the noise's logarithm
    is_continuous = (config.get("timestep_type"), config.get("prediction_type")) == (
        "continuous",
        "v_prediction",
    )
    if "sigma_data" in config or is_continuous:
        raise ValueError(
            f"The scheduler is a {lineage[0]} of the EDM kind, as Playground 2.5 and CosXL have: their UNets are told "
            "of noise in other numbers, and their latents are scaled in another way, so an edit cannot invert them. "
            "Use an SDXL model with a usual scheduler, such as EulerDiscreteScheduler or DDIMScheduler."
        )
    kind = next((FEW_STEP_SCHEDULERS[name] for name in lineage if name in FEW_STEP_SCHEDULERS), None)
    if "EulerAncestralDiscreteScheduler" in lineage and config.get("timestep_spacing") == "trailing":
        kind = "SDXL Turbo"
    if kind is not None:
        raise ValueError(
            f"The scheduler is a {lineage[0]}, which is that of {kind}. A model that was distilled to a few steps does "
            "not follow the path on which a picture is inverted. Use the SDXL model that it was distilled from; where "
            "a LoRA alone makes the difference, `unload_lora_weights()` and load the base model's scheduler again."
        )
