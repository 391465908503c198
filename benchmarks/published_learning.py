"""StyleDiffusion's learning as the authors' code computes it, written plainly, to be timed against ours.

What is compared stays as it is there: the CLIP image encoder runs again inside every cross-attention call of the
conditional branch, with gradients through it; nothing is frozen, so every backward pass also computes the gradients of
the UNet's and the encoder's weights; attention maps are materialised and kept in every layer; one image is learned at a
time; BatchNorm is in train mode; both branches are evaluated once more at the end of each step. As there, the
unconditional prediction is computed once per step.

Two things are as in our code, so that the mathematics is the same and the losses can be compared: a step's maps are
compared with those of the latent below at the same timestep (there, deliberately, with those of the same latent at the
next noisier timestep), and the networks start from our seed. The image is prepared for the encoder once (there, in
every call).

Source: github.com/sen-mao/StyleDiffusion, `optimization` in stylediffusion.py; rewritten from scratch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from PIL import Image
from torch import nn

from semantic_edit.attention_processors.borrowing import BorrowedNetwork
from semantic_edit.attention_processors.install import installed
from semantic_edit.denoisers import unet_denoiser_of
from semantic_edit.editing.schedule import Schedule
from semantic_edit.evaluation.method import latents_of
from semantic_edit.mapping_networks import LearningSettings, initial_parameters, parameter_shapes

KEPT_QUERIES = 32**2  # maps of at most this many positions are kept


@dataclass
class PlainLearning:
    """What was learned.

    latents: The reconstruction, (1, channels, height, width).
    before, after: For each step, the squared error of the latents with its initial and with its learned network.
    attention_before: The squared error of the maps with the initial network.
    """

    latents: torch.Tensor
    before: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)
    attention_before: list[float] = field(default_factory=list)
    forward_evaluations: int = 0
    backward_evaluations: int = 0


def learn_as_published(
    pipe: Any,
    image: Image.Image,
    prompt: str,
    steps: int,
    guidance_scale: float,
    settings: LearningSettings,
    only: int | None = None,
) -> PlainLearning:
    """Learn one image, or only its noisiest steps."""
    denoiser = unet_denoiser_of(pipe)
    with torch.no_grad():
        clean = latents_of(denoiser, [image])
        text, negative = pipe.encode_prompt(prompt, pipe.device, 1, True, negative_prompt="")
    pixels = pipe.feature_extractor(images=[image], return_tensors="pt").pixel_values.to(pipe.device)
    schedule = denoiser.schedule(steps)
    queries = math.prod(denoiser.attention_size(*clean.shape[-2:]))
    trainer = _Trainer(pipe, pixels, text, schedule, settings, queries)
    with (
        unfrozen(pipe.unet),
        unfrozen(pipe.image_encoder),
        BorrowedNetwork(pipe.unet) as unet,
        installed(unet, lambda layer, present: PlainAttnProcessor(trainer)),
    ):
        walk, maps = _inverted(trainer, clean, text)
        return _optimized(trainer, walk, maps, text, negative, guidance_scale, only)


class _Trainer:
    """The networks, and what attention layers exchange with them.

    step: The step whose network gives the values; `None` in the inversion and in the unconditional branch.
    store: The layers' maps, each with whether it is of cross attention.
    """

    def __init__(
        self,
        pipe: Any,
        pixels: torch.Tensor,
        text: torch.Tensor,
        schedule: Schedule,
        settings: LearningSettings,
        queries: int,
    ) -> None:
        self.unet, self.encoder, self.pixels = pipe.unet, pipe.image_encoder, pixels
        self.schedule, self.settings = schedule, settings
        with torch.no_grad():
            tokens = self.image_tokens()
        sizes = (text.shape[1], text.shape[2], tokens.shape[1], tokens.shape[2])
        self.networks = [
            _network(*sizes, settings.seed).to(text) for _ in range(schedule.num_inference_steps)
        ]
        self.queries = queries
        self.step: int | None = None
        self.store: list[tuple[bool, torch.Tensor]] = []

    def image_tokens(self) -> torch.Tensor:
        hidden = self.encoder(self.pixels).last_hidden_state
        return getattr(self.encoder, "vision_model", self.encoder).post_layernorm(hidden)

    def value_input(self, text: torch.Tensor) -> torch.Tensor:
        if self.step is None:
            return text
        scale, shift = self.networks[self.step](self.image_tokens()).chunk(2, dim=1)
        return text * scale + shift

    def see(self, maps: torch.Tensor, is_cross: bool) -> None:
        if maps.shape[2] <= KEPT_QUERIES:
            self.store.append((is_cross, maps))

    def predict(
        self, latents: torch.Tensor, level: int, text: torch.Tensor, step: int | None
    ) -> torch.Tensor:
        self.step, self.store = step, []
        return self.unet(latents, self.schedule.timestep(level), encoder_hidden_states=text).sample

    def cross_maps(self) -> list[torch.Tensor]:
        return [maps for is_cross, maps in self.store if is_cross and maps.shape[2] == self.queries]


def _network(
    text_tokens: int, text_width: int, image_tokens: int, image_width: int, seed: int
) -> nn.Sequential:
    """The published code's variant of the network, with our initial values."""
    if text_width != image_width:
        raise ValueError(
            f"The published networks cannot convert between widths, and the text's is {text_width}, the image's "
            f"{image_width}. Time them on a model where both agree, such as the still-life model."
        )
    hidden = 2 * text_tokens
    network = nn.Sequential(
        nn.Conv1d(image_tokens, hidden, 1),
        nn.Conv1d(hidden, hidden, 1),
        nn.BatchNorm1d(hidden),
        nn.LeakyReLU(),
        nn.Conv1d(hidden, hidden, 1),
    )
    shapes = parameter_shapes("modulate", text_tokens, text_width, image_tokens, image_width)
    values = initial_parameters(shapes, seed)
    layers = {"conv_in": network[0], "conv_mid": network[1], "norm": network[2], "conv_out": network[4]}
    with torch.no_grad():
        for name, layer in layers.items():
            for kind, own in layer.named_parameters():
                own.copy_(values[f"{name}_{kind}"].reshape(own.shape))
    return network.train().requires_grad_(False)


class PlainAttnProcessor:
    """Attention with explicit maps, as published.

    controller: Its `value_input(text)` returns the input of cross attention's value projections; its
        `see(maps, is_cross)` gets each layer's maps, (rows, heads, queries, keys), and may change them in place.
    """

    def __init__(self, controller: Any) -> None:
        self.controller = controller

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        is_cross = encoder_hidden_states is not None
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key = attn.to_q(hidden_states), attn.to_k(context)
        value = attn.to_v(self.controller.value_input(context) if is_cross else context)
        query, key, value = (attn.head_to_batch_dim(part) for part in (query, key, value))
        maps = (torch.einsum("bid,bjd->bij", query, key) * attn.scale).softmax(dim=-1)
        self.controller.see(maps.unflatten(0, (-1, attn.heads)), is_cross)  # a view of them
        output = attn.batch_to_head_dim(torch.einsum("bij,bjd->bid", maps, value))
        return attn.to_out[0](output)


@torch.no_grad()
def _inverted(
    trainer: _Trainer, clean: torch.Tensor, text: torch.Tensor
) -> tuple[list[torch.Tensor], list[list[torch.Tensor]]]:
    """The latents of each level starting at 0, and the maps of each level starting at 1."""
    latents, walk, maps = clean, [clean], []
    for level in range(1, trainer.schedule.num_inference_steps + 1):
        noise_pred = trainer.predict(latents, level, text, None)
        latents = ddim(latents, noise_pred, trainer.schedule, level - 1, level)
        walk.append(latents)
        maps.append(trainer.cross_maps())
    return walk, maps


def ddim(
    latents: torch.Tensor, noise_pred: torch.Tensor, schedule: Schedule, level: int, to: int
) -> torch.Tensor:
    """A DDIM step from one noise level to another, up or down, for a model that predicts noise."""
    clean = (latents - schedule.noise[level] * noise_pred) / schedule.signal[level]
    return schedule.signal[to] * clean + schedule.noise[to] * noise_pred


def _optimized(
    trainer: _Trainer,
    walk: list[torch.Tensor],
    source_maps: list[list[torch.Tensor]],
    text: torch.Tensor,
    negative: torch.Tensor,
    guidance_scale: float,
    only: int | None,
) -> PlainLearning:
    steps = trainer.schedule.num_inference_steps
    done = PlainLearning(walk[-1], forward_evaluations=steps)
    for step in range(steps if only is None else only):
        level = steps - step
        if step:
            trainer.networks[step].load_state_dict(trainer.networks[step - 1].state_dict())
        goal, maps = walk[level - 1], source_maps[level - 1]
        _learn_step(trainer, done, step, level, goal, maps, (text, negative), guidance_scale)
        with torch.no_grad():
            unconditional = trainer.predict(done.latents, level, negative, None)
            conditional = trainer.predict(done.latents, level, text, step)
            done.latents = _stepped(trainer, done.latents, unconditional, conditional, level, guidance_scale)
        done.forward_evaluations += 2
        done.after.append(F.mse_loss(done.latents, goal).item())
    return done


def _learn_step(
    trainer: _Trainer,
    done: PlainLearning,
    step: int,
    level: int,
    goal: torch.Tensor,
    source_maps: list[torch.Tensor],
    embeds: tuple[torch.Tensor, torch.Tensor],
    guidance_scale: float,
) -> None:
    settings, network, (text, negative) = trainer.settings, trainer.networks[step], embeds
    network.requires_grad_(True)
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate_at(step))
    with torch.no_grad():
        unconditional = trainer.predict(done.latents, level, negative, None)
    done.forward_evaluations += 1
    for update in range(settings.updates_at(step, trainer.schedule.num_inference_steps)):
        conditional = trainer.predict(done.latents, level, text, step)
        reached = _stepped(trainer, done.latents, unconditional, conditional, level, guidance_scale)
        latent_error = F.mse_loss(reached, goal)
        pairs = zip(source_maps, trainer.cross_maps(), strict=True)
        attention_error = torch.stack([F.mse_loss(stored, maps) for stored, maps in pairs]).sum()
        loss = latent_error + attention_error
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        done.forward_evaluations += 1
        done.backward_evaluations += 1
        if update == 0:
            done.before.append(latent_error.item())
            done.attention_before.append(attention_error.item())
        if loss.item() < settings.stop_below_at(step):
            break
    network.requires_grad_(False)


def _stepped(
    trainer: _Trainer,
    latents: torch.Tensor,
    unconditional: torch.Tensor,
    conditional: torch.Tensor,
    level: int,
    guidance_scale: float,
) -> torch.Tensor:
    """The guided DDIM step from a level to the one below."""
    guided = unconditional + guidance_scale * (conditional - unconditional)
    return ddim(latents, guided, trainer.schedule, level, level - 1)


@contextmanager
def unfrozen(module: nn.Module) -> Iterator[None]:
    """In the block, let all parameters require gradients, as in a model that was just loaded."""
    before = {parameter: parameter.requires_grad for parameter in module.parameters()}
    try:
        module.requires_grad_(True)
        yield
    finally:
        for parameter, asked in before.items():
            parameter.requires_grad_(asked)
            parameter.grad = None
