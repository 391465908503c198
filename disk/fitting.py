"""Check that something kept from an earlier call, such as the content of a file, fits the present call."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from semantic_edit.disk.models import Family
from semantic_edit.disk.reading import shortened
from semantic_edit.disk.sizes import Sizes

Compared = tuple[str, object, object]
"""What is compared, the value that was kept, and the value in the call."""

PREDICTED = {
    "epsilon": "epsilon (as in Stable Diffusion 1.x and SDXL)",
    "v_prediction": "v_prediction (as in Stable Diffusion 2.x at 768 px)",
}
"""What distinguishes models of one family by their prediction types."""


class KnownSchedule(Protocol):
    """What identifies a noise schedule."""

    @property
    def num_inference_steps(self) -> int:
        """Its number of steps."""

    @property
    def prediction_type(self) -> str:
        """What the model predicts."""

    @property
    def fingerprint(self) -> str:
        """Differs between any two schedules that are not the same."""


@dataclass(frozen=True)
class KnownModel:
    """What identifies a call's model, and what it is conditioned on besides prompts.

    family: `None` if unknown.
    fingerprint: Of the network, after a "+" of its adapters too; "" if unknown.
    scaling_factor: The VAE's, or `None` if unknown.
    sizes: {} if there are none, or they are unknown.
    """

    family: Family | None = None
    fingerprint: str = ""
    scaling_factor: float | None = None
    sizes: Sizes = field(default_factory=dict)


def check_agrees(argument: str, compared: Iterable[Compared], hint: str) -> None:
    """Raise unless what was kept agrees with the call in everything that is compared.

    Args:
        argument: The name of the argument that was kept.
        compared: The pairs of values.
        hint: A sentence on what to do if they differ.

    Raises:
        ValueError: Listing each difference with both values.
    """
    listed = listed_differences(argument.replace("_", " "), compared)
    if listed:
        raise ValueError(f"The `{argument}` does not fit this call ({listed}). {hint}")


def listed_differences(kept: str, compared: Iterable[Compared], quoted: bool = False) -> str:
    """Each difference as "what: `kept` X, this call Y", separated by semicolons; "" if there is none."""
    return "; ".join(
        f"{what}: {kept} {shortened(own, quoted)}, this call {shortened(wanted, quoted)}"
        for what, own, wanted in compared
        if own != wanted
    )


def compared_schedules(own: tuple[int, str, str], wanted: KnownSchedule) -> list[Compared]:
    """Two schedules' steps and prediction types and, if these agree, their fingerprints, which then tell what is left.

    Args:
        own: Steps, prediction type and fingerprint of the schedule that was kept.
    """
    wanted_steps, wanted_type = wanted.num_inference_steps, wanted.prediction_type
    steps, prediction_type, fingerprint = own
    compared: list[Compared] = [
        ("`num_inference_steps`", steps, wanted_steps),
        (
            "prediction_type",
            PREDICTED.get(prediction_type, prediction_type),
            PREDICTED.get(wanted_type, wanted_type),
        ),
    ]
    if (steps, prediction_type) == (wanted_steps, wanted_type):
        compared.append(("noise schedule", fingerprint, wanted.fingerprint))
    return compared


def compared_models(what: str, own: str, wanted: str) -> list[Compared]:
    """Two models' fingerprints without what follows "+", which describes adapters; nothing if one is unknown, ""."""
    own, wanted = (one.partition("+")[0] for one in (own, wanted))
    return [(what, own, wanted)] if own and wanted else []


def compared_sizes(own: Sizes, wanted: Sizes) -> list[Compared]:
    """Each of two models' sizes; nothing if those of one are unknown, or it takes none."""
    names = sorted(own.keys() | wanted.keys()) if own and wanted else []
    return [(f"`{name}`", tuple(own.get(name, ())), tuple(wanted.get(name, ()))) for name in names]


def compared_if_known(what: str, own: object, wanted: object) -> list[Compared]:
    """A pair of values, or nothing if the call's is unknown, `None`."""
    return [] if wanted is None else [(what, own, wanted)]
