"""`semantic-edit attention` of an image that nobody learned."""

import pytest
from PIL import Image

from semantic_edit.cli import main
from semantic_edit.still_life.scenes import sample_scene

SCENE = sample_scene(7, objects=1)


@pytest.fixture
def apple(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(SCENE.render()).save("apple.png")
    return "apple.png"


def test_an_image_is_drawn_once_for_each_word(apple, capsys):
    assert main(["attention", apple, "--prompt", "a pink apple", "-o", "words.png"]) == 0
    assert capsys.readouterr().out == "words.png\n"
    with Image.open("words.png") as drawn:
        assert drawn.width > 4 * 128  # the image and three words


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ([], "name either an image or, with --mapping, a learned one"),
        (["apple.png", "--mapping", "learned", "--prompt", "a mug"], "name either an image or"),
        (["apple.png"], "--prompt must say what the image shows"),
        (["apple.png", "--prompt", " "], "there are no words to draw"),
        (["none.png", "--prompt", "a mug"], "none.png"),
    ],
)
def test_what_is_typed_wrong_is_answered(apple, capsys, typed, answer):
    assert main(["attention", *typed, "-o", "words.png"]) == 2
    assert answer in capsys.readouterr().err
