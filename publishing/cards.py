"""Fill in the texts of cards, and check a card as strictly as the Hub and a reader would."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import ModelCard

from semantic_edit import model_cards
from semantic_edit.publishing.errors import PublishError

REQUIRED = ("license", "library_name", "pipeline_tag", "tags")
REQUIRED_OF_SPACES = ("title", "license", "sdk", "sdk_version", "app_file", "tags")
CARDS = Path(model_cards.__file__).parent
PLACE = re.compile(r"\{[a-z_]+\}")
LINK = re.compile(r"\]\(([^)\s]+)\)")
PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def filled_card(name: str, **fields: str) -> str:
    """A card's text with the placeholders in braces filled in.

    Args:
        name: The name of the file in `model_cards/`, without its ending.
        fields: Texts by placeholder; `ethics` is always available.
    """
    text = (CARDS / f"{name}.md").read_text(encoding="utf-8")
    ethics = (CARDS / "ethics.md").read_text(encoding="utf-8").strip()
    for field, value in {**fields, "ethics": ethics}.items():
        text = text.replace(f"{{{field}}}", value)
    return text


def check_card(folder: Path) -> ModelCard:
    """Check the card of a folder that is to be published.

    Returns:
        The card.

    Raises:
        PublishError: Listing everything that is wrong: missing or malformed metadata, placeholders that were not filled
            in, links to files that do not exist, examples that are not valid Python.
    """
    path = folder / "README.md"
    if not path.is_file():
        raise PublishError(f"{folder} has no README.md, which is its card on the Hub; write one.")
    text = path.read_text(encoding="utf-8")
    try:
        card = ModelCard(text)
    except Exception as error:  # errors of YAML and huggingface_hub, and plain ValueError and KeyError
        raise PublishError(f"The card's metadata cannot be read: {error}") from error
    problems = list(_problems(card, text, folder))
    if problems:
        raise PublishError(f"The card {path} is not ready: {'; '.join(problems)}.")
    return card


def _problems(card: ModelCard, text: str, folder: Path) -> Iterator[str]:
    required = REQUIRED_OF_SPACES if card.data.get("sdk") else REQUIRED
    missing = [name for name in required if not card.data.get(name)]
    if missing:
        yield f"its metadata lacks {', '.join(missing)}"
    for place in sorted(set(PLACE.findall(text))):
        yield f"{place} is not filled in"
    for link in LINK.findall(text):
        target = link.partition("#")[0]
        if target and "://" not in target and not _lies_in(folder, target):
            yield f"it links to {target}, which is not in the folder"
    for code in PYTHON_BLOCK.findall(text):
        try:
            ast.parse(code)
        except SyntaxError as error:
            yield f"an example is not valid Python: {error.msg} in {(error.text or '').strip()!r}"


def _lies_in(folder: Path, target: str) -> bool:
    path = (folder / target).resolve()
    return path.is_relative_to(folder.resolve()) and path.exists()
