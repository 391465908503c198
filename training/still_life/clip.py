"""The still-life model's tiny CLIP learns: pictures find their captions, and lone objects their pair of words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import CLIPModel, CLIPTokenizer

from semantic_edit.still_life.clip import PAIRS, tokenize
from semantic_edit.still_life.pixels import as_pixels
from semantic_edit.still_life.rendering import COLOURS, SIDE
from semantic_edit.still_life.scenes import HELD_OUT_PAIRS, Scene
from semantic_edit.still_life.solids import KINDS
from semantic_edit.still_life.surfaces import SURFACES
from training.loop import LoopSettings, LossFunction, device, train
from training.pool import object_labels, pool_images, pool_scenes
from training.still_life.towers import new_clip, write_tokenizer

BATCH = 64
SETTINGS = LoopSettings(steps=2_000, learning_rate=1.5e-3, weight_decay=0.05)
VISION_SETTINGS = LoopSettings(steps=1_000, learning_rate=8e-4, weight_decay=0.05, seed=1)


class _Student(nn.Module):
    """The CLIP with heads for training alone: a picture's labels, and a noun's colour from its token."""

    def __init__(self, clip: CLIPModel) -> None:
        super().__init__()
        self.clip = clip
        self.classes = (len(SURFACES), len(KINDS), len(COLOURS), len(KINDS), len(COLOURS))
        self.image_head = nn.Linear(128, sum(self.classes))
        self.noun_head = nn.Linear(128, len(COLOURS))

    def images(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        pooled = self.clip.vision_model(pixels).pooler_output
        return functional.normalize(self.clip.visual_projection(pooled).float(), dim=-1), self.image_head(
            pooled
        )

    def texts(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        encoded = self.clip.text_model(ids)
        projected = self.clip.text_projection(encoded.pooler_output)
        return functional.normalize(projected.float(), dim=-1), self.noun_head(encoded.last_hidden_state)


def train_clip(folder: Path, images: int, settings: LoopSettings = SETTINGS) -> CLIPModel:
    """Train both towers together, from nothing."""
    torch.manual_seed(settings.seed)
    student = _Student(new_clip(write_tokenizer(folder / "model" / "tokenizer")))
    train(student, _lesson(student, folder, images), settings, folder / "clip")
    return student.clip


def train_vision(
    clip: CLIPModel, folder: Path, images: int, settings: LoopSettings = VISION_SETTINGS
) -> None:
    """Train the vision tower on, with the text tower, which the denoiser reads, left exactly as it is."""
    torch.manual_seed(settings.seed)
    student = _Student(clip)
    clip.text_model.requires_grad_(False)
    train(student, _lesson(student, folder, images), settings, folder / "clip-vision")


def _lesson(student: _Student, folder: Path, images: int) -> LossFunction:
    """The loss over batches of the pool: pictures find their captions, and lone objects their pair of words."""
    where = device()
    student.to(where)
    if where.type == "cpu":
        student.clip.set_attn_implementation("eager")  # the fused backward is slow on CPUs in bfloat16
    tokenizer = CLIPTokenizer.from_pretrained(folder / "model" / "tokenizer")
    scenes = pool_scenes("train", images)
    labels, pool = object_labels(scenes), pool_images(folder / "pictures", "train", images)
    pair_texts = tokenize(tokenizer, [f"a photo of a {colour} {kind}" for colour, kind in PAIRS]).to(where)
    held_out = torch.tensor([pair in HELD_OUT_PAIRS for pair in PAIRS], device=where)
    colour_ids = {
        token: number for number, token in enumerate(tokenizer.convert_tokens_to_ids(_words(COLOURS)))
    }
    noun_ids = set(tokenizer.convert_tokens_to_ids(_words(KINDS)))

    def loss(generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        chosen = torch.randint(len(pool), (BATCH,), generator=generator)
        rng = np.random.default_rng(int(chosen[0]) * 7 + int(chosen[1]))
        said = [_captions(scenes[index], rng) for index in chosen.tolist()]
        ids = tokenize(tokenizer, [own for own, _ in said] + [other for _, other in said])
        pixels = _shifted(as_pixels(pool[chosen.numpy()]), generator).to(where)
        target = labels[chosen].to(where)
        with torch.autocast(where.type, torch.bfloat16):
            seen, image_logits = student.images(pixels)
            told, noun_logits = student.texts(torch.cat([ids.to(where), pair_texts]))
        scale = student.clip.logit_scale.exp().clamp(max=60)
        logits = scale * seen @ told[: 2 * BATCH].T
        own = torch.arange(BATCH, device=where)
        contrast = functional.cross_entropy(logits, own) + functional.cross_entropy(logits[:, :BATCH].T, own)
        single = target[:, 3] < 0
        pair_logits = (scale * seen @ told[2 * BATCH :].T).masked_fill(held_out, -100.0)
        pair_target = (target[:, 2] * len(KINDS) + target[:, 1]).masked_fill(~single, -100)
        pair = functional.cross_entropy(pair_logits, pair_target)
        heads = sum(
            functional.cross_entropy(part.float(), target[:, column], ignore_index=-1)
            for column, part in enumerate(image_logits.split(student.classes, dim=-1))
        )
        noun = functional.cross_entropy(
            noun_logits[: 2 * BATCH].float().flatten(0, 1),
            _noun_colours(ids, noun_ids, colour_ids).flatten().to(where),
        )
        hits = (pair_logits.argmax(-1) == pair_target)[single].float().mean().item() if single.any() else 1.0
        return contrast + pair + 0.5 * heads + 0.2 * noun, {
            "contrast": contrast.item(),
            "pair_accuracy": hits,
        }

    return loss


def _words(words: object) -> list[str]:
    return [f"{word}</w>" for word in words]  # type: ignore[attr-defined]


def _captions(scene: Scene, rng: np.random.Generator) -> tuple[str, str]:
    """A caption of the scene, and the same wording about a scene with one attribute changed."""
    wording, index = int(rng.integers(1, 2**31)), int(rng.integers(len(scene.objects)))
    change = rng.choice(["kind", "colour", "surface"])
    if change == "surface":
        other = scene.with_surface(str(rng.choice([one for one in SURFACES if one != scene.surface])))
    else:
        words = KINDS if change == "kind" else tuple(COLOURS)
        now = getattr(scene.objects[index], str(change))
        other = scene.with_object(
            index, **{str(change): str(rng.choice([one for one in words if one != now]))}
        )
    if HELD_OUT_PAIRS & {(item.colour, item.kind) for item in other.objects}:
        other = scene.with_surface(
            next(one for one in SURFACES if one != scene.surface)
        )  # never taught as wrong
    own, changed = scene.caption(wording), other.caption(wording)
    if own == changed:  # this wording leaves the changed attribute out
        own, changed = scene.caption(0), other.caption(0)
    return own, changed


def _shifted(pixels: torch.Tensor, generator: torch.Generator, reach: int = 4) -> torch.Tensor:
    """The batch moved by up to `reach` pixels, which keeps the vision tower from learning the pictures by heart."""
    down, right = torch.randint(0, 2 * reach + 1, (2,), generator=generator).tolist()
    padded = functional.pad(pixels, (reach,) * 4, mode="replicate")
    return padded[..., down : down + SIDE, right : right + SIDE].contiguous()


def _noun_colours(ids: torch.Tensor, nouns: set[int], colours: dict[int, int]) -> torch.Tensor:
    """For each token, the colour class of the word before it if the token is a coloured noun, else -100."""
    result = torch.full(ids.shape, -100)
    for row, tokens in enumerate(ids.tolist()):
        for column in range(1, len(tokens)):
            if tokens[column] in nouns and tokens[column - 1] in colours:
                result[row, column] = colours[tokens[column - 1]]
    return result
