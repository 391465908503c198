"""CSFID: class-conditional simplified Fréchet distance, for edits that turn one class into another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from PIL import Image

from semantic_edit.evaluation.metrics.fid import Embed, cached_inception


def class_mean_distance(
    features: torch.Tensor, classes: Sequence[str], reference_means: Mapping[str, torch.Tensor]
) -> float:
    """Squared distance between a class's mean feature and its reference's, averaged over the classes that occur.

    All classes count equally, however many samples they have. For classes with few samples it is biased upwards: the
    variance of the samples, divided by their number, adds to the squared distance.

    Args:
        features: (samples, width).
        classes: The class of each sample.
        reference_means: For each class, the mean feature, (width,), of pictures that truly show it.

    Raises:
        ValueError: If there are no samples, not one class per sample, or a class without a reference.
    """
    if len(classes) != len(features) or not len(features):
        raise ValueError(
            f"Each picture needs one class, and there must be some: got {len(features)} and {len(classes)}."
        )
    missing = sorted(set(classes) - reference_means.keys())
    if missing:
        raise ValueError(f"There are no reference pictures of {', '.join(missing)}: add some of each class.")
    own = {name: [one == name for one in classes] for name in dict.fromkeys(classes)}
    means = {name: features[torch.tensor(chosen)].cpu().double().mean(0) for name, chosen in own.items()}
    distances = [(mean - reference_means[name].to(mean)).square().sum() for name, mean in means.items()]
    return torch.stack(distances).mean().item()


def csfid(
    results: Sequence[Image.Image],
    classes: Sequence[str],
    references: Mapping[str, Sequence[Image.Image]],
    embed: Embed | None = None,
) -> float:
    """Class-conditional simplified FID of edited pictures, as FlexIT defined it and DiffEdit reports it.

    For each target class: FID's distance between the results that were to show it and true pictures of it, simplified
    for few samples to the means, |mean(results) - mean(references)|², without covariances. Then the mean over target
    classes. FlexIT's `eval.py` computes the references' means over the class in ImageNet, and first crops pictures to a
    centred square of 256 pixels; do the same beforehand for comparable figures.

    Args:
        results: Edited pictures.
        classes: The class that each was to become.
        references: For each of these classes, pictures that truly show it.
        embed: Computes features of pictures; by default `cached_inception()`.

    Raises:
        ValueError: If there are no pictures, not one class per picture, or a class without references.
        MetricUnavailable: As for `cached_inception`, if it is needed.

    Source: FlexIT, arXiv:2203.04705, and `eval.py` of github.com/facebookresearch/SemanticImageTranslation, where it is
    "CSFID(mean)"; DiffEdit, arXiv:2210.11427.
    """
    embed = embed or cached_inception()
    wanted = {name: references[name] for name in dict.fromkeys(classes) if references.get(name)}
    means = {name: embed(images).cpu().double().mean(0) for name, images in wanted.items()}
    return class_mean_distance(embed(results), classes, means)
