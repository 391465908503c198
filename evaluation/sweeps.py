"""Which methods are compared, and at which settings of their knobs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from semantic_edit.denoisers import FLOW_EDIT, FRESH_NOISE
from semantic_edit.evaluation.diffedit_method import DiffEditMethod
from semantic_edit.evaluation.direct_inversion import DirectInversion
from semantic_edit.evaluation.edit_friendly import EditFriendly
from semantic_edit.evaluation.encode_decode import EncodeDecode
from semantic_edit.evaluation.flexit import FlexIT
from semantic_edit.evaluation.flow_edit import FlowEdit
from semantic_edit.evaluation.ilvr import ILVR
from semantic_edit.evaluation.ledits import LEDITSPlusPlus
from semantic_edit.evaluation.masked_sdedit import MaskedSDEdit
from semantic_edit.evaluation.method import EditMethod
from semantic_edit.evaluation.negative_prompt import NegativePromptInversion
from semantic_edit.evaluation.null_text import NullTextInversion
from semantic_edit.evaluation.prompt_to_prompt import PromptToPrompt
from semantic_edit.evaluation.restyled import Restyled
from semantic_edit.evaluation.rf_inversion import RFInversion
from semantic_edit.evaluation.sdedit import SDEdit
from semantic_edit.evaluation.word_swap import WordSwap
from semantic_edit.mapping_networks import LearningSettings

FRACTIONS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
STRENGTHS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
RATIOS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
MOVED = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
STOPS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
THRESHOLDS = (0.25, 0.5, 0.75)
KEPT = (0.5, 0.6, 0.7, 0.75, 0.8, 0.9)
GUIDANCES = (1.5, 2.0, 3.0, 4.0, 5.0, 7.5)
STYLE_PRESETS = {  # tau_v/c/s/u, from the most preserving to the one that changes objects
    "0.6/0.6/0.8/0.5": (0.6, 0.6, 0.8, 0.5),
    "0.4/0.4/0.4/0.5": (0.4, 0.4, 0.4, 0.5),
    "0.2/0.2/0.4/0": (0.2, 0.2, 0.4, 0.0),
}


@dataclass(frozen=True)
class Sweep:
    """A method at several settings.

    knob: The name of the knob that is varied.
    default: The setting of its paper or code.
    points: Each setting with its label, in the knob's order; empty if only the reconstruction is wanted.
    """

    name: str
    knob: str
    default: EditMethod
    points: tuple[tuple[str, EditMethod], ...] = ()

    @property
    def default_point(self) -> str | None:
        """The default's label, if it is among the points."""
        return next((label for label, method in self.points if method == self.default), None)

    def thinned(self, points: int | None) -> Sweep:
        """The same with its default and some of the others, at most `points` in all; `None` keeps all."""
        others = [point for point in self.points if point[0] != self.default_point]
        if points is None or points >= len(self.points) or not others:
            return self
        wanted = max(points - (self.default_point is not None), 0)
        kept = others[:: -(-len(others) // wanted)] if wanted else []
        return replace(self, points=tuple(one for one in self.points if one in kept or one not in others))


def _along(name: str, knob: str, default: EditMethod, field: str, values: tuple[float, ...]) -> Sweep:
    """A sweep over one field; the default's own value is among the points."""
    own = getattr(default, field)
    points = tuple((f"{value:g}", replace(default, **{field: value})) for value in sorted({*values, own}))
    return Sweep(name, knob, default, points)


def _over_strength(name: str) -> Callable[[EditMethod], Sweep]:
    return lambda method: _along(name, "strength", method, "strength", STRENGTHS)


def _over_guidance(name: str) -> Callable[[EditMethod], Sweep]:
    return lambda method: _along(name, "guidance", method, "guidance_scale", GUIDANCES)


def _encode_decode(method: EncodeDecode) -> Sweep:
    return _along("Encode-Decode", "encoding ratio", method, "strength", RATIOS)


def _flow_edit(method: FlowEdit) -> Sweep:
    return _along("FlowEdit", "moved", method, "moved", MOVED)


def _rf_inversion(method: RFInversion) -> Sweep:
    return _along("RF-Inversion", "stop", method, "stop", STOPS)


def _ilvr(method: ILVR) -> Sweep:
    return _along("ILVR", "down factor", method, "down_factor", (2, 4, 8))


def _flexit(method: FlexIT) -> Sweep:
    return _along("FlexIT", "updates", method, "steps", (20, 40, 80, 160))


def _ledits(method: LEDITSPlusPlus) -> Sweep:
    return _along("LEDITS++", "threshold", method, "threshold", KEPT)


def _over_taus(name: str) -> Callable[[PromptToPrompt | NullTextInversion], Sweep]:
    """Both taus at once, and the default."""

    def sweep(default: PromptToPrompt | NullTextInversion) -> Sweep:
        taus = tuple((f"{tau:g}/{tau:g}", replace(default, tau_c=tau, tau_s=tau)) for tau in FRACTIONS)
        return Sweep(name, "tau_c/s", default, (*taus, (f"{default.tau_c:g}/{default.tau_s:g}", default)))

    return sweep


def _diffedit(name: str, **changes: object) -> Callable[[DiffEditMethod], Sweep]:
    """DiffEdit over its encoding ratio, with some fields changed."""
    return lambda method: _along(
        name,
        "encoding ratio",
        replace(method, **changes),  # type: ignore[arg-type]
        "inpaint_strength",
        RATIOS,
    )


def _thresholds(method: DiffEditMethod) -> Sweep:
    return _along("DiffEdit, thresholds", "mask threshold", method, "mask_threshold", THRESHOLDS)


def _fewer_steps(method: DiffEditMethod) -> Sweep:
    """What can be saved: steps, and noise maps for the mask."""
    own = (method.num_inference_steps, method.num_maps_per_mask)
    settings = dict.fromkeys([own, (33, 10), (25, 10), (20, 10), (20, 5), (15, 5), (10, 5)])
    points = tuple(
        (f"{steps} steps, {maps} maps", replace(method, num_inference_steps=steps, num_maps_per_mask=maps))
        for steps, maps in settings
    )
    return Sweep("DiffEdit, fewer evaluations", "", method, points)


def _style(name: str, **changes: object) -> Callable[[Restyled], Sweep]:
    """StyleDiffusion over tau_v, with some fields changed."""
    return lambda method: _along(name, "tau_v", replace(method, **changes), "tau_v", FRACTIONS)  # type: ignore[arg-type]


def _style_presets(method: Restyled) -> Sweep:
    points = [
        (name, replace(method, tau_v=v, tau_c=c, tau_s=s, tau_u=u))
        for name, (v, c, s, u) in STYLE_PRESETS.items()
    ]
    return Sweep("StyleDiffusion, presets", "tau_v/c/s/u", method, tuple(points))


def _style_together(method: Restyled) -> Sweep:
    """All taus at once, as for NTI + P2P."""
    points = [(f"{tau:g}", replace(method, tau_v=tau, tau_c=tau, tau_s=tau, tau_u=tau)) for tau in FRACTIONS]
    return Sweep("StyleDiffusion, all taus", "tau", method, tuple(points))


def _style_published(method: Restyled) -> Sweep:
    """The published schedule, only for its reconstruction: learning longer does not improve edits."""
    return Sweep(
        "StyleDiffusion, published schedule", "tau_v", replace(method, settings=LearningSettings.published())
    )


def _style_none(method: Restyled) -> Sweep:
    return _style("StyleDiffusion, no updates", settings=LearningSettings.none())(method)


def _style_long(method: Restyled) -> Sweep:
    return _style("StyleDiffusion, long schedule", settings=LearningSettings.long())(method)


_NO_ATTENTION_LOSS = replace(LearningSettings.short(), attention_weight=0.0)
# by the name on the command line: the method at its defaults, and the sweep over its knob
METHODS: dict[str, tuple[EditMethod, Callable[..., Sweep]]] = {
    "sdedit": (SDEdit(), _over_strength("SDEdit")),
    "masked-sdedit": (MaskedSDEdit(), _over_strength("SDEdit in our mask")),
    "word-swap": (WordSwap(), _over_guidance("Inversion + word swap")),
    "flowedit": (FlowEdit(), _flow_edit),
    "rf-inversion": (RFInversion(), _rf_inversion),
    "encode-decode": (EncodeDecode(), _encode_decode),
    "ilvr": (ILVR(), _ilvr),
    "flexit": (FlexIT(), _flexit),
    "edit-friendly": (EditFriendly(), _over_strength("Edit-friendly DDPM")),
    "edit-friendly-guidance": (EditFriendly(), _over_guidance("Edit-friendly DDPM, guidance")),
    "ledits": (LEDITSPlusPlus(), _ledits),
    "ledits-guidance": (LEDITSPlusPlus(), _over_guidance("LEDITS++, guidance")),
    "p2p": (PromptToPrompt(), _over_taus("P2P on DDIM")),
    "nti": (NullTextInversion(), _over_taus("NTI + P2P")),
    "npi": (NegativePromptInversion(), _over_taus("NPI + P2P")),
    "npi-guidance": (NegativePromptInversion(), _over_guidance("NPI + P2P, guidance")),
    "direct-inversion": (DirectInversion(), _over_taus("Direct Inversion + P2P")),
    "direct-inversion-guidance": (DirectInversion(), _over_guidance("Direct Inversion + P2P, guidance")),
    "diffedit": (DiffEditMethod.with_preset("default"), _diffedit("DiffEdit")),
    "diffedit-noise": (
        DiffEditMethod.with_preset("default"),
        _diffedit("DiffEdit, noise", encoding=FRESH_NOISE),
    ),
    "diffedit-flowedit": (
        DiffEditMethod.with_preset("default"),
        _diffedit("DiffEdit, FlowEdit", encoding=FLOW_EDIT),
    ),
    "diffedit-paper": (DiffEditMethod(), _diffedit("DiffEdit, paper preset")),
    "diffedit-no-reference": (
        DiffEditMethod(),
        _diffedit("DiffEdit, no reference text", with_reference=False),
    ),
    "diffedit-no-encoding": (DiffEditMethod(), _diffedit("DiffEdit, no encoding", encoding=FRESH_NOISE)),
    "diffedit-thresholds": (DiffEditMethod(), _thresholds),
    "diffedit-fewer": (DiffEditMethod(), _fewer_steps),
    "stylediffusion": (Restyled(), _style("StyleDiffusion")),
    "stylediffusion-confined": (Restyled(), _style("StyleDiffusion in a found mask", confined=True)),
    "stylediffusion-presets": (Restyled(), _style_presets),
    "stylediffusion-all-taus": (Restyled(), _style_together),
    "stylediffusion-direct": (Restyled(), _style("StyleDiffusion, direct", variant="direct")),
    "stylediffusion-p2p": (Restyled(), _style("StyleDiffusion, P2P (tau_u 0)", tau_u=0.0)),
    "stylediffusion-no-attention-loss": (
        Restyled(),
        _style("StyleDiffusion, no attention loss", settings=_NO_ATTENTION_LOSS),
    ),
    "stylediffusion-none": (Restyled(), _style_none),
    "stylediffusion-long": (Restyled(), _style_long),
    "stylediffusion-published": (Restyled(), _style_published),
}


def sweep_of(name: str, **changes: object) -> Sweep:
    """The sweep of a method.

    Args:
        name: One of `METHODS`.
        changes: Fields of the method with values other than its defaults, such as `num_inference_steps`.
    """
    method, sweep = METHODS[name]
    return sweep(replace(method, **changes))  # type: ignore[arg-type]
