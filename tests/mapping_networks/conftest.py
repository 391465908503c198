"""A denoiser with a few hundred numbers, so that learning an image takes milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from semantic_edit.mapping_networks import (
    LearningInputs,
    LearningOptions,
    LearningResult,
    MappingNetwork,
    learn_mappings,
)

CHANNELS, HEIGHT, WIDTH = 2, 2, 3
TOKENS, TEXT_WIDTH = 4, 6
HEADS, QUERIES = 2, 3
DENOISER = ("identity", "evaluate", "evaluate_unconditional", "step_back", "source_maps")


@dataclass
class Toy:
    """Pictures, their inversions and a denoiser whose noise and maps depend on the value embeddings.

    calls: For each evaluation the level, the rows and whether it was differentiated.
    """

    images: int
    levels: int
    dtype: torch.dtype
    image_width: int
    weights: dict[str, torch.Tensor]
    text_embeds: torch.Tensor
    image_tokens: torch.Tensor
    trajectory: torch.Tensor = field(init=False)
    maps: dict[int, list[torch.Tensor]] = field(default_factory=dict)
    calls: list[tuple[str, int, list[int], bool]] = field(default_factory=list)
    before_call: Callable[[int], None] | None = None
    identity: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        latents = [self.weights["latents"]]
        rows = torch.arange(self.images)
        for level in range(1, self.levels + 1):
            noise, self.maps[level] = self.denoise(
                latents[-1], level, self.text_embeds, self.text_embeds[rows]
            )
            kept, added = self.factors(level)
            latents.append((latents[-1] - added * noise) / kept)
        self.trajectory = torch.stack(latents)

    def factors(self, level: int) -> tuple[float, float]:
        return 1.02, -0.15

    def denoise(
        self, latents: torch.Tensor, level: int, values: torch.Tensor, text: torch.Tensor
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        flat = torch.cat([latents.flatten(1), values.flatten(1)], dim=1)
        hidden = torch.tanh(flat @ self.weights["hidden"] + 0.1 * level)
        noise = (hidden @ self.weights["noise"]).view_as(latents)
        queries = (hidden @ self.weights["queries"]).view(-1, HEADS, QUERIES, 1)
        keys = text.mean(-1).view(-1, 1, 1, TOKENS)
        return noise, [(queries * keys).softmax(-1), (2 * queries * keys).softmax(-1)]

    def _called(self, kind: str, level: int, rows: list[int]) -> None:
        if self.before_call is not None:
            self.before_call(len(self.calls))
        self.calls.append((kind, level, rows, torch.is_grad_enabled()))

    def evaluate(self, latents, level, values, rows):
        self._called("conditional", level, rows.tolist())
        return self.denoise(latents, level, values, self.text_embeds[rows])

    def evaluate_unconditional(self, latents, level):
        self._called("unconditional", level, list(range(len(latents))))
        return self.denoise(latents, level, torch.zeros_like(self.text_embeds), self.text_embeds)[0]

    def step_back(self, latents, noise_pred, level):
        kept, added = self.factors(level)
        return kept * latents + added * noise_pred

    def source_maps(self, level):
        return self.maps[level]

    def learn(self, **changes: Any) -> LearningResult:
        """Learn the images; `changes` replace arguments of `learn_mappings`, or fields of them, by name."""

        def taken(names: tuple[str, ...]) -> dict[str, Any]:
            own = {name: getattr(self, name) for name in names if hasattr(self, name)}
            return own | {name: changes.pop(name) for name in names if name in changes}

        denoiser = SimpleNamespace(**taken(DENOISER))
        inputs = LearningInputs(**taken(("trajectory", "text_embeds", "image_tokens")))
        options = LearningOptions(**taken(("variant", "guidance_scale", "settings")))
        return learn_mappings(denoiser, inputs, options, **changes)

    def alone(self, index: int) -> Toy:
        """The same problem for one of the images."""
        one = slice(index, index + 1)
        weights = {**self.weights, "latents": self.weights["latents"][one]}
        return Toy(
            1,
            self.levels,
            self.dtype,
            self.image_width,
            weights,
            self.text_embeds[one],
            self.image_tokens[one],
        )


@pytest.fixture(scope="session")
def make_toy() -> Callable[..., Toy]:
    def make(
        images: int = 1,
        levels: int = 4,
        dtype: torch.dtype = torch.float32,
        num_image_tokens: int = 5,
        image_width: int = 7,
    ) -> Toy:
        generator = torch.Generator().manual_seed(0)

        def draw(*shape: int, scale: float = 1.0) -> torch.Tensor:
            return (scale * torch.randn(*shape, generator=generator, dtype=torch.float64)).to(dtype)

        size, hidden = CHANNELS * HEIGHT * WIDTH, 16
        weights = {
            "hidden": draw(size + TOKENS * TEXT_WIDTH, hidden, scale=0.2),
            "noise": draw(hidden, size, scale=0.3),
            "queries": draw(hidden, HEADS * QUERIES),
            "latents": draw(images, CHANNELS, HEIGHT, WIDTH),
        }
        text, tokens = draw(images, TOKENS, TEXT_WIDTH), draw(images, num_image_tokens, image_width)
        return Toy(images, levels, dtype, image_width, weights, text, tokens)

    return make


@pytest.fixture(scope="session")
def make_network() -> Callable[..., MappingNetwork]:
    """Builds a network of three steps with random tensors; keyword arguments replace config entries."""

    def make(**changes: Any) -> MappingNetwork:
        network = MappingNetwork(**{**CONFIG, **changes})
        generator = torch.Generator().manual_seed(0)
        drawn = {
            name: torch.randn(value.shape, generator=generator)
            for name, value in network.state_dict().items()
        }
        image_tokens, trajectory = drawn.pop("image_tokens"), drawn.pop("trajectory", None)
        return network.fill(
            drawn, image_tokens, drawn.pop("latents")[None] if trajectory is None else trajectory
        )

    return make


CONFIG: dict[str, Any] = {
    "variant": "modulate",
    "num_text_tokens": TOKENS,
    "text_width": TEXT_WIDTH,
    "num_image_tokens": 5,
    "image_width": 7,
    "latent_shape": [CHANNELS, HEIGHT, WIDTH],
    "num_inference_steps": 3,
    "timesteps": [1, 334, 667],
    "schedule_fingerprint": "5c0dc4ed01e50000",
    "prediction_type": "epsilon",
    "prompt": "a red apple on grass",
    "negative_prompt": "",
    "guidance_scale": 7.5,
    "scaling_factor": 0.18215,
    "base_model": "someone/still-life",
    "base_fingerprint": "0123456789abcdef",
    "learning": {"inner_steps": 3, "learning_rate": 0.01, "stop_on": "latent_error"},
    "reconstruction_psnr": 40.25,
    "reconstruction_ssim": None,
}


@pytest.fixture
def config() -> dict[str, Any]:
    return dict(CONFIG)


@pytest.fixture
def network(make_network: Callable[..., MappingNetwork]) -> MappingNetwork:
    return make_network()
