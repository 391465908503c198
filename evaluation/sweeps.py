"""Which methods are compared, at which settings of their knobs."""

from __future__ import annotations

from dataclasses import dataclass, replace

from semantic_edit.evaluation.method import EditMethod
from semantic_edit.evaluation.null_text import NullTextInversion
from semantic_edit.evaluation.restyled import Restyled
from semantic_edit.evaluation.sdedit import SDEdit
from semantic_edit.evaluation.word_swap import WordSwap
from semantic_edit.mapping_networks import LearningSettings

FRACTIONS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
STRENGTHS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
GUIDANCES = (1.5, 2.0, 3.0, 4.0, 5.0, 7.5)
PRESETS = {  # tau_v/c/s/u, from the one that preserves most to the one that changes objects
    "0.6/0.6/0.8/0.5": (0.6, 0.6, 0.8, 0.5),
    "0.4/0.4/0.4/0.5": (0.4, 0.4, 0.4, 0.5),
    "0.2/0.2/0.4/0": (0.2, 0.2, 0.4, 0.0),
}


@dataclass(frozen=True)
class Sweep:
    """A method at several settings.

    knob: What is turned.
    default: The setting that its paper or code takes.
    points: Each setting by what it is called, in the knob's order; none where only the reconstruction is wanted.
    """

    name: str
    knob: str
    default: EditMethod
    points: tuple[tuple[str, EditMethod], ...] = ()

    @property
    def default_point(self) -> str | None:
        """What the default is called, if it is among the points."""
        return next((label for label, method in self.points if method == self.default), None)

    def thinned(self, points: int | None) -> Sweep:
        """The same at its default and at some others, at most `points` in all; `None` leaves out none."""
        others = [point for point in self.points if point[0] != self.default_point]
        if points is None or points >= len(self.points) or not others:
            return self
        wanted = max(points - (self.default_point is not None), 0)
        kept = others[:: -(-len(others) // wanted)] if wanted else []
        return replace(self, points=tuple(one for one in self.points if one in kept or one not in others))


def baseline_sweeps(steps: int) -> tuple[Sweep, ...]:
    """The methods that StyleDiffusion is compared with."""
    sdedit, swap = SDEdit(steps), WordSwap(steps)
    inversion = NullTextInversion(steps)
    taus = tuple((f"{tau:g}/{tau:g}", replace(inversion, tau_c=tau, tau_s=tau)) for tau in FRACTIONS)
    return (
        Sweep(
            "SDEdit",
            "strength",
            sdedit,
            tuple((f"{strength:g}", replace(sdedit, strength=strength)) for strength in STRENGTHS),
        ),
        Sweep(
            "DDIM + word swap",
            "guidance",
            swap,
            tuple((f"{scale:g}", replace(swap, guidance_scale=scale)) for scale in GUIDANCES),
        ),
        Sweep("NTI + P2P", "tau_c/s", inversion, (*taus, ("0.8/0.5", inversion))),
    )


def style_sweeps(steps: int) -> tuple[Sweep, ...]:
    """StyleDiffusion along tau_v, along the named presets, and along all taus at once, as NTI + P2P goes."""
    default = Restyled(steps)
    presets = [
        (name, replace(default, tau_v=v, tau_c=c, tau_s=s, tau_u=u)) for name, (v, c, s, u) in PRESETS.items()
    ]
    together = [
        (f"{tau:g}", replace(default, tau_v=tau, tau_c=tau, tau_s=tau, tau_u=tau)) for tau in FRACTIONS
    ]
    return (
        _along_tau_v("StyleDiffusion", default),
        Sweep("StyleDiffusion, presets", "tau_v/c/s/u", default, tuple(presets)),
        Sweep("StyleDiffusion, all taus", "tau", default, tuple(together)),
    )


def ablation_sweeps(steps: int) -> tuple[Sweep, ...]:
    """StyleDiffusion with one thing other than usual."""
    default = Restyled(steps)
    without = replace(LearningSettings.short(), attention_weight=0.0)
    return (
        _along_tau_v("StyleDiffusion, no attention loss", replace(default, settings=without)),
        _along_tau_v("StyleDiffusion, direct", replace(default, variant="direct")),
        _along_tau_v("StyleDiffusion, P2P (tau_u 0)", replace(default, tau_u=0.0)),
    )


def published_sweeps(steps: int) -> tuple[Sweep, ...]:
    """The published schedule, for its reconstruction alone: learning longer does not edit better."""
    return (
        Sweep(
            "StyleDiffusion, published schedule",
            "tau_v",
            Restyled(steps, settings=LearningSettings.published()),
        ),
    )


def _along_tau_v(name: str, default: Restyled) -> Sweep:
    points = tuple((f"{tau:g}", replace(default, tau_v=tau)) for tau in FRACTIONS)
    return Sweep(name, "tau_v", default, points)
