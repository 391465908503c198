import pytest
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from hypothesis import example, given
from hypothesis import strategies as st

from semantic_edit.disk.hub_ids import is_hub_id


@given(st.lists(st.text("aZ09._-/ ", max_size=12), min_size=1, max_size=3).map("/".join))
@example("a" * 96 + "/" + "b" * 96)
@example("a/" + "b" * 97)
@example("owner/name.git")
@example("owner/name.github")
def test_it_is_what_the_hubs_client_lets_pass_with_an_owner(name):
    try:
        validate_repo_id(name)
        passes = name.count("/") == 1
    except HFValidationError:
        passes = False
    assert is_hub_id(name) == passes


@pytest.mark.parametrize(
    "name", ["", "name", "/name", "owner/", "öwner/name", "./folder", "../folder", "~/folder", "a/b\n"]
)
def test_what_has_no_owner_or_other_letters_is_none(name):
    assert not is_hub_id(name)
