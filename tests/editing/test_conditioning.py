import pytest
import torch

from semantic_edit.editing.conditioning import Conditioning


def made(rows=3, seed=0, names=("prompt_embeds", "pooled")):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"prompt_embeds": (rows, 4, 6), "pooled": (rows, 5)}
    return Conditioning({name: torch.randn(shapes[name], generator=generator) for name in names})


def test_rows_are_one_number():
    with pytest.raises(
        ValueError, match=r"must have one number of rows, got {'prompt_embeds': 2, 'pooled': 3}"
    ):
        Conditioning({"prompt_embeds": torch.zeros(2, 4, 6), "pooled": torch.zeros(3, 5)})


def test_parts_joined_are_the_parts_in_their_rows():
    first, second = made(2), made(3, seed=1)
    joined = Conditioning.cat([first, second])
    assert len(joined) == 5
    assert joined.rows(slice(0, 2)).equals(first)
    assert joined.rows(torch.tensor([2, 3, 4])).equals(second)


def test_copies_lie_side_by_side():
    given = made(3)
    for copies in (1, 2, 4):
        repeated = given.repeat(copies)
        assert len(repeated) == 3 * copies
        for row in range(3 * copies):
            assert repeated.rows(slice(row, row + 1)).equals(
                given.rows(slice(row // copies, row // copies + 1))
            )


def test_one_prompt_serves_a_batch():
    one, batch = made(1), made(3)
    assert one.expand(3).equals(Conditioning.cat([one, one, one]))
    assert batch.expand(3).equals(batch)


def test_rows_are_chosen_in_every_tensor():
    first, second = made(3), made(3, seed=1)
    chosen = Conditioning.where(torch.tensor([True, False, True]), first, second)
    for row, owner in enumerate((first, second, first)):
        assert chosen.rows(slice(row, row + 1)).equals(owner.rows(slice(row, row + 1)))


def test_equality_is_of_all_tensors():
    given = made()
    assert given.equals(made())
    assert not given.equals(made(seed=1))
    assert not given.equals(made(names=("prompt_embeds",)))
    assert not made(names=("prompt_embeds",)).equals(given)
    changed = Conditioning({**given.tensors, "pooled": given.tensors["pooled"] + 1})
    assert not given.equals(changed)


def test_every_tensor_moves():
    half = made().to(torch.float16)
    assert {tensor.dtype for tensor in half.tensors.values()} == {half.dtype} == {torch.float16}
    assert {tensor.device.type for tensor in half.to(torch.device("meta")).tensors.values()} == {"meta"}
