"""The training loss on which part of the image words attend to."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTokenizer

from semantic_edit.still_life.clip import tokenize
from semantic_edit.still_life.rendering import COLOURS
from semantic_edit.still_life.scenes import sample_scene
from semantic_edit.still_life.solids import KINDS
from training.grounding import ObjectWords, grounding_loss, recorded_maps
from training.still_life.towers import write_tokenizer


@pytest.fixture(scope="module")
def still_life_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizer:
    return write_tokenizer(Path(tmp_path_factory.mktemp("still-life")))


@pytest.fixture
def coverage() -> torch.Tensor:
    """The left object covers the left half of 8 x 8 cells, the right one a quarter at the right."""
    covered = torch.zeros(1, 2, 8, 8)
    covered[0, 0, :, :4] = 1
    covered[0, 1, 4:, 4:] = 1
    return covered


@pytest.fixture
def words() -> torch.Tensor:
    """Tokens 0 and 1 name the objects, 2 colours the left one, nothing the right one; 3 is another word."""
    return torch.eye(4)[None, :, :4] * torch.tensor([1.0, 1, 1, 0])[:, None]


def looking(side: int, regions: dict[int, tuple[slice, slice]]) -> torch.Tensor:
    """Maps (1, side * side, 4) in which each token is looked at in one region."""
    maps = torch.zeros(1, side, side, 4)
    for token, (rows, columns) in regions.items():
        maps[0, rows, columns, token] = 0.3
    return maps.flatten(1, 2)


def test_object_words_on_captions(still_life_tokenizer: CLIPTokenizer):
    find = ObjectWords(still_life_tokenizer)
    for seed, wording in itertools.product(range(40), (0, 1, 17, None)):
        scene = sample_scene(seed)
        ids = tokenize(still_life_tokenizer, [scene.caption(wording)])
        texts = still_life_tokenizer.convert_ids_to_tokens(ids[0].tolist())
        found = find(ids)[0]
        named = [[texts[token] for token in row.nonzero().flatten()] for row in found]
        kinds = [[f"{item.kind}</w>"] for item in scene.objects]
        colours = [[f"{item.colour}</w>"] for item in scene.objects]
        nothing: list[list[str]] = [[]] * (2 - len(kinds))
        if scene.objects[0].colour not in scene.caption(wording):
            colours = [[]] * len(kinds)
        assert named == [*kinds, *nothing, *colours, *nothing]
        assert found.sum(dim=1).max() <= 1


def test_object_words_of_other_texts(still_life_tokenizer: CLIPTokenizer):
    find = ObjectWords(still_life_tokenizer)
    kind, colour = KINDS[0], next(iter(COLOURS))
    texts = ["", f"{colour} on the {colour} table", f"a {kind} {colour}", f"{colour} {kind}"]
    counts = find(tokenize(still_life_tokenizer, texts)).sum(dim=2)
    assert counts.tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0], [1, 0, 1, 0]]


@pytest.mark.parametrize("side", [4, 8])
def test_no_loss_where_words_look_at_their_objects(coverage, words, side: int):
    half = side // 2
    left, right = (slice(None), slice(half)), (slice(half, None), slice(half, None))
    inside = looking(side, {0: left, 1: right, 2: left, 3: right})
    assert grounding_loss([inside], words, coverage).item() == pytest.approx(0, abs=1e-10)
    swapped = looking(side, {0: right, 1: left, 2: right, 3: left})
    assert grounding_loss([swapped], words, coverage).item() == pytest.approx(1)
    # one of three named words is wholly outside, in one of two layers
    one = looking(side, {0: left, 1: left, 2: left})
    assert grounding_loss([inside, one], words, coverage).item() == pytest.approx(1 / 6)


def test_only_named_words_count(coverage, words):
    maps = torch.rand(1, 64, 4, generator=torch.Generator().manual_seed(0))
    other = maps.clone()
    other[..., 3] = 0.5
    assert torch.equal(grounding_loss([maps], words, coverage), grounding_loss([other], words, coverage))
    assert grounding_loss([maps], torch.zeros_like(words), coverage).item() == 0


def test_words_learn_to_look(make_unet: Callable[..., UNet2DConditionModel], coverage, words):
    unet, generator = make_unet(), torch.Generator().manual_seed(0)
    latents = torch.randn(1, 4, 8, 8, generator=generator)
    text = torch.randn(1, 4, 32, generator=generator)
    optimizer = torch.optim.Adam(unet.parameters(), lr=1e-2)
    losses = []
    with recorded_maps(unet) as maps:
        for _ in range(5):
            maps.clear()
            unet(latents, 10, text)
            loss = grounding_loss(maps, words, coverage)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


@torch.no_grad()
def test_recording_changes_nothing(unet: UNet2DConditionModel):
    latents, text = torch.ones(2, 4, 8, 8), torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0))
    before = dict(unet.attn_processors)
    expected = unet(latents, 10, text).sample
    with recorded_maps(unet) as maps:
        actual = unet(latents, 10, text).sample
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    assert sorted({tuple(one.shape) for one in maps}) == [(2, 16, 5), (2, 64, 5)]
    for one in maps:
        torch.testing.assert_close(one.sum(dim=2), torch.ones(one.shape[:2]))
    assert unet.attn_processors == before
    count = len(maps)
    unet(latents, 10, text)
    assert len(maps) == count


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_processors_come_back_after_an_error(unet: UNet2DConditionModel, error: type[BaseException]):
    before = dict(unet.attn_processors)
    with pytest.raises(error, match="boom"), recorded_maps(unet):
        raise error("boom")
    assert unet.attn_processors == before
