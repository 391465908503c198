"""The docstrings as the API reference shows them; `make docs` checks that all of it builds."""

import importlib.util
from pathlib import Path
from textwrap import dedent

import griffe
import pytest

import semantic_edit

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def docstrings():
    spec = importlib.util.spec_from_file_location("docstrings", DOCS / "docstrings.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def rewritten(docstrings, monkeypatch, tmp_path):
    """A module's objects by their paths, once the pages have been processed."""

    def read(source, *shown):
        page = tmp_path / "page.md"
        page.write_text("\n\n".join(f"::: {path}" for path in shown))
        monkeypatch.setattr(docstrings, "PAGES", tmp_path)
        module = griffe.visit("room", tmp_path / "room.py", dedent(source))
        docstrings.HouseStyle().on_package(pkg=module)
        return {one.path: one for one in docstrings.objects(module)}

    return read


def sections(one):
    """The sections of an object's docstring: texts, and of others each name with its annotation and description."""
    return [
        section.value
        if section.kind is griffe.DocstringSectionKind.text
        else [(entry.name, str(entry.annotation), entry.description) for entry in section.value]
        for section in one.docstring.parse("google")
    ]


def test_fields_become_attributes_and_what_shares_a_line_is_told_of_each(rewritten):
    objects = rewritten(
        '''
        class Size:
            """How large something is.

            width, height: In pixels,
                of both sides.
            unit: Its name.

            Source: a paper.
            """

            width: int
            height: int
            unit: str
        '''
    )
    pixels = "In pixels,\nof both sides."
    attributes = [("width", "int", pixels), ("height", "int", pixels), ("unit", "str", "Its name.")]
    assert sections(objects["room.Size"]) == ["How large something is.", attributes, "Source: a paper."]


def test_what_is_no_field_stays(rewritten):
    objects = rewritten(
        '''
        class Reader:
            """Reads.

            note: this is no member of the class.

            Args:
                path: Of a file,
                    which is there.
            """

            def __init__(self, path: str) -> None: ...
        '''
    )
    text, (path,) = sections(objects["room.Reader"])
    assert text == "Reads.\n\nnote: this is no member of the class."
    assert path == ("path", "str", "Of a file,\nwhich is there.")


def test_arguments_that_share_a_line_find_their_annotations(rewritten):
    objects = rewritten(
        '''
        def cut(image: str, height: int, width: float) -> None:
            """Cut.

            Args:
                height, width:
                    In pixels.
                image: A picture.
            """
        '''
    )
    _, arguments = sections(objects["room.cut"])
    assert [entry[:2] for entry in arguments] == [("height", "int"), ("width", "float"), ("image", "str")]
    assert [entry[2].strip() for entry in arguments] == ["In pixels.", "In pixels.", "A picture."]


def test_names_lead_to_where_they_are_shown_and_nowhere_else(rewritten):
    source = '''
        from elsewhere import Other

        def shown() -> None:
            """See [`hidden`], [`Shown.method`], [`Other`] and [`unknown`], and arXiv:2210.11427."""

        def hidden() -> None: ...

        class Shown:
            def method(self) -> None:
                """See [`method`] and [`shown`]."""
        '''
    objects = rewritten(source, "room.shown", "room.Shown")
    assert objects["room.shown"].docstring.value == (
        "See `hidden`, [`Shown.method`][room.Shown.method], `Other` and `unknown`, and "
        "[arXiv:2210.11427](https://arxiv.org/abs/2210.11427)."
    )
    assert "[`shown`][room.shown]" in objects["room.Shown.method"].docstring.value


def test_the_first_page_names_all_that_the_package_has():
    page = (DOCS / "index.md").read_text()
    names = [name for name in semantic_edit.__all__ if not name.startswith("_")]
    assert not [name for name in names if f"[`{name}`][semantic_edit." not in page]
