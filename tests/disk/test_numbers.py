from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch

from semantic_edit.disk.numbers import plain_number, read_number
from semantic_edit.disk.reading import real_number, whole_number


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (10, 10),
        (np.int64(10), 10),
        (np.uint8(10), 10),
        (0.5, 0.5),
        (np.float32(0.5), 0.5),
        (np.float64(0.5), 0.5),
        (Fraction(1, 2), 0.5),
    ],
)
def test_numbers_of_any_type_become_pythons_own(value, plain):
    assert plain_number(value) == plain
    assert type(plain_number(value)) is type(plain)


def test_what_is_no_real_number_stays_what_it_is():
    huge = Fraction(10**400, 3)
    for value in (True, np.True_, None, "1", Decimal(1), 1j, torch.tensor(1), np.array(1), [1], huge):
        assert plain_number(value) is value


def test_an_error_says_what_is_wanted_what_is_there_and_why():
    with pytest.raises(ValueError, match=r"^`steps` must be an integer from 1 to 9, got 10\. So it is\.$"):
        read_number("steps", 10, whole_number(1, 9), "So it is.")
    with pytest.raises(ValueError, match=r"^`steps` must be an integer from 1 to 9, got a int\.$"):
        read_number("steps", 10**5000, whole_number(1, 9))


@pytest.mark.parametrize(
    ("ends", "meaning", "inside", "outside"),
    [
        ({}, "a number from 0 to 1", (0, 0.5, 1), (-1e-9, 1.001, 1e308, float("nan"), float("inf"))),
        ({"above": True}, "a number above 0 and up to 1", (1e-9, 1), (0, 1.001)),
        ({"below": True}, "a number from 0 and below 1", (0, 0.999), (-1e-9, 1)),
        ({"above": True, "below": True}, "a number above 0 and below 1", (0.5,), (0, 1)),
    ],
)
def test_ends_that_belong_to_a_range_and_that_do_not(ends, meaning, inside, outside):
    is_right, told = real_number(0, 1, **ends)
    assert told == meaning
    assert all(map(is_right, inside))
    assert not any(map(is_right, outside))
