"""What can be measured of a set of edited pictures, by name: its distance to a set of true pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from PIL import Image

from semantic_edit.datasets.items import EditItem
from semantic_edit.evaluation.metrics.csfid import class_mean_distance
from semantic_edit.evaluation.metrics.fid import frechet_distance
from semantic_edit.evaluation.metrics.networks import Networks

# the network of `Networks` to use, and whether classes are compared or the whole sets
SET_METRICS = {
    "vision_fid": ("pooled_vision", False),
    "vision_csfid": ("pooled_vision", True),
    "fid": ("inception", False),
    "csfid": ("inception", True),
}


class SetMetrics:
    """Distances between edited pictures and the data's own, by name.

    FID compares with the pictures that were edited, CSFID with true pictures of what they were to become.

    Args:
        names: From `SET_METRICS`.
        pipe: A loaded Stable Diffusion pipeline.

    Raises:
        MetricUnavailable: If the pipeline, or this machine, lacks a network.

    Source: Heusel et al., arXiv:1706.08500; FlexIT, arXiv:2203.04705. DiffEdit, arXiv:2210.11427, reports both.
    """

    def __init__(self, names: Sequence[str], pipe: DiffusionPipeline) -> None:
        networks = Networks(pipe)
        self.names = tuple(names)
        self._embeds = {
            network: getattr(networks, network) for network, _ in map(SET_METRICS.__getitem__, names)
        }
        self._inputs: dict[tuple[str, str], torch.Tensor] = {}
        self._classes: dict[tuple[str, str], torch.Tensor] = {}
        self._edited: dict[tuple[str, Path], torch.Tensor] = {}

    def see_references(self, items: Sequence[EditItem], skips: bool = False) -> None:
        """Embed all true pictures; called before the edits, because a damaged example of a class cannot be replaced.

        Args:
            items: The edits.
            skips: Whether to ignore unreadable pictures that were to be edited, since they take no part in any result.

        Raises:
            ValueError: If any other picture cannot be read.
        """
        for network, by_class in map(SET_METRICS.__getitem__, self.names):
            embed = self._embeds[network]
            for item in items:
                if by_class and item.load_examples and (network, item.target_class) not in self._classes:
                    features = [embed([example]) for example in item.load_examples()]
                    self._classes[network, item.target_class] = torch.cat(features).cpu().double().mean(0)
                elif not by_class and (network, item.group) not in self._inputs:
                    try:
                        image = item.image
                    except ValueError:
                        if not skips:
                            raise
                    else:
                        self._inputs[network, item.group] = embed([image])[0]

    def __call__(self, items: Sequence[EditItem], images: Sequence[Path]) -> dict[str, float | None]:
        """Each metric of some edits; `None` if there are too few.

        CSFID leaves out items for whose target class the data has no pictures.

        Args:
            items: The edits.
            images: The files with their results.
        """
        return {name: self._measured(*SET_METRICS[name], items, images) for name in self.names}

    def _measured(
        self, network: str, by_class: bool, items: Sequence[EditItem], images: Sequence[Path]
    ) -> float | None:
        pairs = list(zip(items, images, strict=True))
        if by_class:
            pairs = [pair for pair in pairs if (network, pair[0].target_class) in self._classes]
        groups = dict.fromkeys(item.group for item, _ in pairs)
        if not pairs or (not by_class and min(len(pairs), len(groups)) < 2):
            return None
        edited = torch.stack([self._features(network, path) for _, path in pairs])
        if by_class:
            classes = [item.target_class for item, _ in pairs]
            means = {name: self._classes[network, name] for name in classes}
            return class_mean_distance(edited, classes, means)
        return frechet_distance(edited, torch.stack([self._inputs[network, group] for group in groups]))

    def _features(self, network: str, path: Path) -> torch.Tensor:
        if (network, path) not in self._edited:
            with Image.open(path) as file:
                self._edited[network, path] = self._embeds[network]([file.convert("RGB")])[0]
        return self._edited[network, path]
