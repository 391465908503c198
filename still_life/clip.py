"""The still-life model's tiny CLIP: a word-level tokenizer, a text tower and a vision tower that agree."""

from __future__ import annotations

import json
import string
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from semantic_edit.disk.writing import write_folder
from semantic_edit.still_life.loop import LoopSettings, LossFunction, device, train
from semantic_edit.still_life.pool import as_pixels, object_labels, pool_pictures, pool_scenes
from semantic_edit.still_life.rendering import COLOURS, SIDE
from semantic_edit.still_life.scenes import HELD_OUT_PAIRS, Scene
from semantic_edit.still_life.solids import KINDS
from semantic_edit.still_life.surfaces import SURFACES

MAX_TOKENS = 20
BATCH = 64
SETTINGS = LoopSettings(steps=2_000, learning_rate=1.5e-3, weight_decay=0.05)
VISION_SETTINGS = LoopSettings(steps=1_000, learning_rate=8e-4, weight_decay=0.05, seed=1)
PAIRS = [(colour, kind) for colour in COLOURS for kind in KINDS]

_OTHER_WORDS = (
    "a an the and on of in to with without no next beside standing lying photo picture painting still life "
    "light dark wood wooden table marble grass sand checked cloth left right front behind"
)


def write_tokenizer(folder: Path) -> CLIPTokenizer:
    """Write and load a CLIPTokenizer that gives each word of the still lifes one token, and others their letters.

    Byte-pair merges build each known word from its left end, longer words first, so that "on" cannot break "lemon".
    """
    words = sorted({*KINDS, *COLOURS, *_OTHER_WORDS.split()}, key=lambda word: (-len(word), word))
    signs = string.ascii_lowercase + string.digits + ",.'-"
    tokens = [*signs, *(sign + "</w>" for sign in signs)]
    merges: list[tuple[str, str]] = []
    for word in words:
        pieces = [*word[:-1], word[-1] + "</w>"]
        while len(pieces) > 1:
            merge = (pieces[0], pieces[1])
            pieces[:2] = ["".join(merge)]
            if merge not in merges:
                merges.append(merge)
                tokens.append(pieces[0])
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    lines = ["#version: 0.2", *map(" ".join, merges)]
    texts = {"vocab.json": json.dumps(vocabulary), "merges.txt": "\n".join(lines) + "\n"}
    write_folder(folder, {name: text.encode() for name, text in texts.items()})
    tokenizer = CLIPTokenizer(
        vocab=vocabulary,
        merges=merges,
        model_max_length=MAX_TOKENS,
        bos_token="<|startoftext|>",
        eos_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        pad_token="<|endoftext|>",
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def new_clip(tokenizer: CLIPTokenizer) -> CLIPModel:
    """Both towers, 128 wide; the text projection is the identity, so pooled text is the embedding itself."""
    towers = {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 4, "projection_dim": 128}
    special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=MAX_TOKENS,
        num_hidden_layers=3,
        pad_token_id=tokenizer.pad_token_id,
        **special,
        **towers,
    )
    vision = CLIPVisionConfig(image_size=SIDE, patch_size=16, num_hidden_layers=4, **towers)
    clip = CLIPModel(
        CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=128)
    )
    nn.init.eye_(clip.text_projection.weight)
    clip.text_projection.requires_grad_(False)
    return clip


def new_image_processor() -> CLIPImageProcessor:
    return CLIPImageProcessor(
        size={"shortest_edge": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )


def load_parts(model: Path) -> CLIPModel:
    """The whole tiny CLIP from what `save_parts` left."""
    clip = new_clip(CLIPTokenizer.from_pretrained(model / "tokenizer"))
    text_encoder = CLIPTextModel.from_pretrained(model / "text_encoder")
    image_encoder = CLIPVisionModelWithProjection.from_pretrained(model / "image_encoder")
    clip.text_model.load_state_dict(text_encoder.state_dict())
    clip.vision_model.load_state_dict(image_encoder.vision_model.state_dict())
    clip.visual_projection.load_state_dict(image_encoder.visual_projection.state_dict())
    return clip


def save_parts(clip: CLIPModel, model: Path) -> None:
    """Save the towers the way Stable Diffusion keeps them: a text encoder, and an image encoder with its projection."""
    with tempfile.TemporaryDirectory() as whole:
        clip.save_pretrained(whole)
        CLIPTextModel.from_pretrained(whole).save_pretrained(model / "text_encoder")
        CLIPVisionModelWithProjection.from_pretrained(whole).save_pretrained(model / "image_encoder")


@torch.no_grad()
def embed_texts(text_encoder: CLIPTextModel, tokenizer: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
    """Unit vectors (texts, 128) in the space that the tiny CLIP's pictures share."""
    return functional.normalize(text_encoder(tokenize(tokenizer, texts)).pooler_output.float(), dim=-1)


@torch.no_grad()
def embed_pictures(image_encoder: CLIPVisionModelWithProjection, pixels: torch.Tensor) -> torch.Tensor:
    """Unit vectors (pictures, 128) of pixels in [-1, 1], (pictures, 3, 128, 128)."""
    return functional.normalize(image_encoder(pixels).image_embeds.float(), dim=-1)


def tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
    """Token ids (texts, MAX_TOKENS)."""
    return tokenizer(
        texts, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt"
    ).input_ids


class _Student(nn.Module):
    """The CLIP with heads for training alone: a picture's labels, and a noun's colour from its token."""

    def __init__(self, clip: CLIPModel) -> None:
        super().__init__()
        self.clip = clip
        self.classes = (len(SURFACES), len(KINDS), len(COLOURS), len(KINDS), len(COLOURS))
        self.picture_head = nn.Linear(128, sum(self.classes))
        self.noun_head = nn.Linear(128, len(COLOURS))

    def pictures(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        pooled = self.clip.vision_model(pixels).pooler_output
        return functional.normalize(self.clip.visual_projection(pooled).float(), dim=-1), self.picture_head(
            pooled
        )

    def texts(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        encoded = self.clip.text_model(ids)
        projected = self.clip.text_projection(encoded.pooler_output)
        return functional.normalize(projected.float(), dim=-1), self.noun_head(encoded.last_hidden_state)


def train_clip(folder: Path, pictures: int, settings: LoopSettings = SETTINGS) -> CLIPModel:
    """Train both towers together, from nothing."""
    torch.manual_seed(settings.seed)
    student = _Student(new_clip(write_tokenizer(folder / "model" / "tokenizer")))
    train(student, _lesson(student, folder, pictures), settings, folder / "clip")
    return student.clip


def train_vision(
    clip: CLIPModel, folder: Path, pictures: int, settings: LoopSettings = VISION_SETTINGS
) -> None:
    """Train the vision tower on, with the text tower, which the denoiser reads, left exactly as it is."""
    torch.manual_seed(settings.seed)
    student = _Student(clip)
    clip.text_model.requires_grad_(False)
    train(student, _lesson(student, folder, pictures), settings, folder / "clip-vision")


def _lesson(student: _Student, folder: Path, pictures: int) -> LossFunction:
    """The loss over batches of the pool: pictures find their captions, and lone objects their pair of words."""
    where = device()
    student.to(where)
    if where.type == "cpu":
        student.clip.set_attn_implementation("eager")  # the fused backward is slow on CPUs in bfloat16
    tokenizer = CLIPTokenizer.from_pretrained(folder / "model" / "tokenizer")
    scenes = pool_scenes("train", pictures)
    labels, pool = object_labels(scenes), pool_pictures(folder / "pictures", "train", pictures)
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
            seen, picture_logits = student.pictures(pixels)
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
            for column, part in enumerate(picture_logits.split(student.classes, dim=-1))
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
