"""What can be measured of one edit, by name, given an item of a dataset and the edited picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from diffusers import DiffusionPipeline
from PIL import Image

from semantic_edit.datasets.items import EditItem
from semantic_edit.evaluation.metrics.features import feature_distance
from semantic_edit.evaluation.metrics.lpips import lpips, ns_lpips
from semantic_edit.evaluation.metrics.nearest import nearest_alternative
from semantic_edit.evaluation.metrics.networks import Layers, Networks, Tokens
from semantic_edit.evaluation.metrics.remains import leftover, surroundings
from semantic_edit.evaluation.metrics.set_metrics import SET_METRICS
from semantic_edit.evaluation.metrics.similarity import psnr, ssim
from semantic_edit.evaluation.metrics.structure import structure_distance
from semantic_edit.evaluation.metrics.unavailable import MetricUnavailable
from semantic_edit.still_life.cases import EditCase

MOST = 60.0  # dB; rounding to 8 bits alone gives 59, and infinity cannot be averaged
Measure = Callable[[Networks, EditItem, Image.Image], float]


@dataclass(frozen=True)
class EditMetric:
    """One measure of an edit.

    name: As for `edit_metrics`.
    needs: What an item must have: "case" for its ground truth, "mask" for where the edit is expected, or "".
    measure: Computes it, given the item and the edited picture.
    """

    name: str
    needs: str
    measure: Callable[[EditItem, Image.Image], float]

    def __call__(self, item: EditItem, image: Image.Image) -> float | None:
        """Measure an edited picture; `None` if the item lacks what is needed, or its region is too small.

        Raises:
            ValueError: If the picture does not have the item's size, for measures that compare the two pixel by pixel.
        """
        lacks = {"case": item.case is None, "mask": item.load_mask is None}
        value = math.nan if lacks.get(self.needs) else self.measure(item, image)
        return None if math.isnan(value) else value


def edit_metrics(names: Sequence[str] | None, pipe: DiffusionPipeline) -> list[EditMetric]:
    """Build metrics by name, in the given order; metrics that share a network load it only once.

    Args:
        names: From `ALWAYS` and `OPTIONAL`; `None` means all of `ALWAYS` that this pipeline supports.
        pipe: A loaded Stable Diffusion pipeline, of diffusers or of this package.

    Raises:
        ValueError: For a name that does not exist.
        MetricUnavailable: If the pipeline, or this machine, lacks what a named metric needs.
    """
    networks = Networks(pipe)
    if names is None:
        return [_built(name, networks) for name in ALWAYS if _is_available(name, networks)]
    unknown = [name for name in names if name not in _TABLE]
    if unknown:
        raise ValueError(
            f"There is no metric {', '.join(unknown)}. Choose from {', '.join([*_TABLE, JUDGE, *SET_METRICS])}."
        )
    return [_built(name, networks) for name in names]


@dataclass(frozen=True)
class _Row:
    needs: str
    network: str  # of `Networks`, or ""
    measure: Measure


def _built(name: str, networks: Networks) -> EditMetric:
    row = _TABLE[name]
    if row.network:
        getattr(networks, row.network)  # so that anything missing is noticed before the first edit
    return EditMetric(name, row.needs, partial(row.measure, networks))


def _is_available(name: str, networks: Networks) -> bool:
    try:
        _built(name, networks)
    except MetricUnavailable:
        return False
    return True


def _case(item: EditItem) -> EditCase:
    assert item.case is not None, "EditMetric asks only where there is one"
    return item.case


def _mask(item: EditItem) -> np.ndarray:
    assert item.load_mask is not None, "EditMetric asks only where there is one"
    return item.load_mask()


def _finds_target(item: EditItem, image: Image.Image) -> float:
    case = _case(item)
    return float(nearest_alternative(image, case.alternatives, case.changed_mask) == case.target_word)


def _leftover(item: EditItem, image: Image.Image) -> float:
    case = _case(item)
    return leftover(image, case.image, case.target_image, case.changed_mask)


def _kept(item: EditItem, image: Image.Image) -> float:
    """PSNR to the input outside the expected region; if nothing changed, the most that 8 bits can tell."""
    return min(psnr(image, item.image, ~_mask(item)), MOST)


def _to_target(item: EditItem, image: Image.Image, around: bool = False) -> float:
    """PSNR to the perfect edit, inside the changed pixels or around them."""
    case = _case(item)
    where = surroundings(case.changed_mask) if around else case.changed_mask
    return psnr(image, case.target_image, where)


def _layer_distance(layers: Layers, first: Image.Image, second: Image.Image) -> float:
    return feature_distance(layers(first), layers(second))


def _structure(tokens: Tokens, first: Image.Image, second: Image.Image) -> float:
    return structure_distance(tokens(first), tokens(second)).item()


_OWN = {
    # success, where the perfect edit is known
    "nearest": _Row("case", "", lambda _, item, out: _finds_target(item, out)),
    "psnr_to_target": _Row("case", "", lambda _, item, out: psnr(out, _case(item).target_image)),
    "leftover": _Row("case", "", lambda _, item, out: _leftover(item, out)),
    "psnr_inside": _Row("case", "", lambda _, item, out: _to_target(item, out)),
    "psnr_around": _Row("case", "", lambda _, item, out: _to_target(item, out, around=True)),
    "ssim_to_target": _Row("case", "", lambda _, item, out: ssim(out, _case(item).target_image)),
    "features_to_target": _Row(
        "case", "vision", lambda n, item, out: _layer_distance(n.vision, out, _case(item).target_image)
    ),
    "vae_features_to_target": _Row(
        "case", "vae", lambda n, item, out: _layer_distance(n.vae, out, _case(item).target_image)
    ),
    # agreement with the prompt
    "clip": _Row("", "clip", lambda n, item, out: n.clip.agreement(item.prompt, out)),
    "clip_edited": _Row("mask", "clip", lambda n, item, out: n.clip.agreement(item.prompt, out, _mask(item))),
    # what was kept
    "psnr_outside": _Row("mask", "", lambda _, item, out: _kept(item, out)),
    "ssim_outside": _Row("mask", "", lambda _, item, out: ssim(out, item.image, ~_mask(item))),
    "structure": _Row("", "patches", lambda n, item, out: _structure(n.patches, item.image, out)),
    "psnr_to_input": _Row("", "", lambda _, item, out: psnr(out, item.image)),
    "ssim_to_input": _Row("", "", lambda _, item, out: ssim(out, item.image)),
    "features_to_input": _Row("", "vision", lambda n, item, out: _layer_distance(n.vision, out, item.image)),
    "vae_features_to_input": _Row("", "vae", lambda n, item, out: _layer_distance(n.vae, out, item.image)),
}
_PUBLISHED = {
    "lpips": _Row("", "lpips", lambda n, item, out: lpips(n.lpips, item.image, out)),
    "ns_lpips": _Row("mask", "lpips", lambda n, item, out: ns_lpips(n.lpips, item.image, out, _mask(item))),
    "clip_score": _Row("", "published_clip", lambda n, item, out: n.published_clip.score(item.prompt, out)),
    "clip_score_edited": _Row(
        "mask", "published_clip", lambda n, item, out: n.published_clip.score(item.prompt, out, _mask(item))
    ),
    "dino_structure": _Row("", "dino", lambda n, item, out: _structure(n.dino, item.image, out)),
}
_TABLE = _OWN | _PUBLISHED
JUDGE = "judge"  # of still lifes; `judge_metric` builds it
ALWAYS = tuple(
    _OWN
)  # need no weights beyond the pipeline's, though some pipelines lack a CLIP or its vision tower
OPTIONAL = tuple(_PUBLISHED)  # published networks, from the user's caches
