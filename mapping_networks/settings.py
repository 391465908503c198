"""How long and how fast mapping networks learn."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from semantic_edit.disk.numbers import read_number
from semantic_edit.disk.reading import Rule, or_none, real_number, whole_number

STOPS = ("loss", "latent_error")
STARTS = ("guidance", "random")
MOST_UPDATES = 100_000  # per step
NUMBERS_OF_LEARNING: dict[str, Rule] = {  # fields of `LearningSettings`
    "inner_steps": whole_number(0, MOST_UPDATES),
    "late_inner_steps": or_none(whole_number(0, MOST_UPDATES)),
    "inner_decay": real_number(0, 1000),
    "learning_rate": real_number(0, 1000, above=True),
    "adam_beta1": real_number(0, 1, below=True),
    "adam_beta2": real_number(0, 1, below=True),
    "rate_decay": real_number(0, 1000),
    "latent_weight": real_number(0, 1e6),
    "attention_weight": real_number(0, 1e6),
    "stop_below": real_number(0, 1e30),
    "stop_growth": real_number(0, 1e30),
    "converged_below": real_number(0, 1e30),
    "seed": whole_number(0, 2**63 - 1),
}


@dataclass(frozen=True)
class LearningSettings:
    """How many updates each step gets, and how large they are. Steps count from 0, the noisiest.

    start: What the networks of the variant "modulate" start from. "guidance": values with which guidance has about no
        effect, so that little remains to be learned; see `value_embeds_of`. "random": random ones, as published and
        always with the variant "direct".
    inner_steps: Updates at step 0; fewer where `stop_below` is reached first. With 0 and no `late_inner_steps`, nothing
        is learned.
    late_inner_steps: The same for the cleaner half of the steps, whose errors no later step can correct; `None` is
        `inner_steps`.
    inner_decay: Step `i` takes at most ceil(inner_steps * exp(-inner_decay * i)) updates.
    learning_rate: Adam's, at step 0.
    adam_beta1, adam_beta2: Adam's, in [0, 1). Each step starts a new Adam, so with few updates a short memory is best.
    rate_decay: Step `i` learns at learning_rate * (1 - rate_decay * i), but at no less than a hundredth of it.
    latent_weight: Weight of the squared error of the latents that a step leads to.
    attention_weight: Weight of the squared error of the attention maps; at 0 no maps are computed.
    stop_on: What ends a step early by falling below `stop_below + stop_growth * i`. "loss": the weighted sum, which is
        measured before an update and acted on after it, as published. "latent_error": the mean squared error of the
        latents, acted on before the update, so that a step that is good enough already costs a single evaluation.
    stop_below, stop_growth: See `stop_on`; with 0 and 0 no step stops early. In clean latents 3e-4 is about 51 dB; the
        still-life model's VAE reconstructs its pictures at 33 dB.
    combine: After the last update, evaluate the combination of the step's networks that would have the smallest latent
        error if steps were linear between them, and keep the best of all. Needs `stop_on="latent_error"`.
    converged_below: Learning is reported as not converged if the mean squared error of the clean latents is not below
        this. 6e-3 is about 38 dB, at which the still-life VAE's reconstruction loses a further 1 dB.
    seed: For the network that step 0 starts from.

    Raises:
        ValueError: If a field is out of range.
    """

    start: str = "guidance"
    inner_steps: int = 3
    late_inner_steps: int | None = None
    inner_decay: float = 0.0
    learning_rate: float = 1e-2
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    rate_decay: float = 0.01
    latent_weight: float = 1.0
    attention_weight: float = 1.0
    stop_on: str = "latent_error"
    stop_below: float = 3e-4
    stop_growth: float = 0.0
    combine: bool = False
    converged_below: float = 6e-3
    seed: int = 0

    def __post_init__(self) -> None:
        for name, rule in NUMBERS_OF_LEARNING.items():
            object.__setattr__(self, name, read_number(name, getattr(self, name), rule))
        if self.stop_on not in STOPS:
            raise ValueError(f"`stop_on` must be one of {', '.join(STOPS)}, got {self.stop_on!r}.")
        if self.start not in STARTS:
            raise ValueError(f"`start` must be one of {', '.join(STARTS)}, got {self.start!r}.")
        if not isinstance(self.combine, bool):
            raise ValueError(f"`combine` must be True or False, got {self.combine!r}.")
        if self.combine and self.stop_on != "latent_error":
            raise ValueError(f'`combine` needs `stop_on="latent_error"`, got {self.stop_on!r}.')
        if not self.latent_weight and not self.attention_weight:
            raise ValueError(
                "`latent_weight` and `attention_weight` must not both be 0: nothing would be learned then."
            )

    @classmethod
    def none(cls) -> LearningSettings:
        """No update at all: the start itself, which already edits as well."""
        return cls(inner_steps=0, converged_below=1e30)

    @classmethod
    def short(cls) -> LearningSettings:
        """At most one update a step, by an Adam with a short memory.

        A step ends early once its latents are as good as the VAE can show, and otherwise on the best combination of the
        networks that it went through. Longer learning reproduces the picture better without the inversion, but
        does not edit better.
        """
        return cls(
            inner_steps=1,
            learning_rate=3e-3,
            adam_beta1=0.5,
            adam_beta2=0.9,
            combine=True,
            converged_below=0.1,
        )

    @classmethod
    def long(cls) -> LearningSettings:
        """At most two updates a step in the noisier half and four in the cleaner half: good without the inversion."""
        short = cls.short()
        return replace(short, inner_steps=2, late_inner_steps=4, learning_rate=1e-2, converged_below=6e-3)

    @classmethod
    def published(cls) -> LearningSettings:
        """The authors' schedule: up to 1015 updates over 30 steps.

        Source: the authors' published code, which takes its learning rates and its stopping rule from null-text
        inversion (arXiv:2211.09794).
        """
        return cls(
            "random", inner_steps=100, inner_decay=0.1, stop_on="loss", stop_below=1e-5, stop_growth=2e-5
        )

    def updates_at(self, step: int, num_inference_steps: int) -> int:
        """The largest number of updates that a step may take, out of `num_inference_steps` steps."""
        is_late = 2 * step >= num_inference_steps
        most = self.late_inner_steps if is_late and self.late_inner_steps is not None else self.inner_steps
        return math.ceil(most * math.exp(-self.inner_decay * step))

    def learning_rate_at(self, step: int) -> float:
        """Adam's learning rate at a step."""
        return self.learning_rate * max(1 - self.rate_decay * step, 0.01)

    def stop_below_at(self, step: int) -> float:
        """The value below which `stop_on` must fall to end a step."""
        return self.stop_below + self.stop_growth * step
