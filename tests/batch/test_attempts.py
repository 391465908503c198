from __future__ import annotations

import pytest

from semantic_edit.batch.attempts import BatchSize, DoesNotFit, attempted


def test_the_batch_grows_to_the_cap():
    counts = []
    assert attempted(lambda part: counts.append(len(part)) or part, range(20), BatchSize(6)) == [*range(20)]
    assert counts == [1, 2, 4, 6, 6, 1]


def test_what_does_not_fit_is_halved_and_never_tried_again():
    counts, size = [], BatchSize(16)

    def run(part):
        counts.append(len(part))
        if len(part) > 3:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        return part

    assert attempted(run, range(12), size) == [*range(12)]
    assert counts == [1, 2, 4, 2, 2, 2, 2, 1]
    assert size.most == 2


def test_a_row_that_does_not_fit_even_alone_is_told_apart_from_others():
    def run(part):
        if 1 in part:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        return part

    first, second, third = attempted(run, range(3), BatchSize(4, now=4))
    assert (first, third) == (0, 2)
    assert isinstance(second, DoesNotFit)
    assert "does not fit into memory even alone (CUDA out of memory" in str(second)


def test_a_row_that_is_refused_takes_no_other_with_it():
    def run(part):
        if 2 in part:
            raise ValueError("no such word")
        return [10 * one for one in part]

    size = BatchSize(4, now=4)
    *good, refused, last = attempted(run, range(4), size)
    assert (good, last) == ([0, 10], 30)
    assert str(refused) == "no such word"
    assert size.most == 4


def test_other_failures_are_not_hidden():
    def run(part):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        attempted(run, [1], BatchSize(1))
