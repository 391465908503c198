"""What a card must contain before it is uploaded."""

import pytest
from huggingface_hub import ModelCard

from semantic_edit.disk.models import STABLE_DIFFUSION
from semantic_edit.publishing.cards import check_card, filled_card
from semantic_edit.publishing.errors import PublishError
from semantic_edit.publishing.published import PIPELINES
from semantic_edit.publishing.repositories import build_model, build_pipeline, check_repository

GOOD = """---
license: apache-2.0
library_name: diffusers
pipeline_tag: image-to-image
tags:
  - diffusers
---

# A card

![a picture](picture.png) and [a page](https://example.com/page).

```python
print("fine")
```
"""


def write(folder, text):
    (folder / "README.md").write_text(text)
    (folder / "picture.png").write_bytes(b"not looked at")


def test_a_good_card_passes(tmp_path):
    write(tmp_path, GOOD)
    assert check_card(tmp_path).data.license == "apache-2.0"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("license: apache-2.0\n", "", "lacks license"),
        ("tags:\n  - diffusers\n", "", "lacks tags"),
        ("license: apache-2.0", "license: [apache", "metadata cannot be read"),
        ("# A card", "# {title}", r"\{title\} is not filled in"),
        ("(picture.png)", "(pictures/picture.png)", "links to pictures/picture.png, which is not"),
        ("(picture.png)", "(../picture.png)", r"links to \.\./picture.png, which is not"),
        ('print("fine")', 'print("fine"', "an example is not valid Python"),
        (
            "tags:",
            "model-index:\n  - name: it\n    results:\n      - task: {}\ntags:",
            "metadata cannot be read",
        ),
    ],
)
def test_what_is_wrong_with_a_card_is_named(tmp_path, old, new, reason):
    assert old in GOOD
    write(tmp_path, GOOD.replace(old, new))
    (tmp_path.parent / "picture.png").write_bytes(b"outside of the folder")
    with pytest.raises(PublishError, match=reason):
        check_card(tmp_path)


def test_no_card_is_refused(tmp_path):
    with pytest.raises(PublishError, match="has no README"):
        check_card(tmp_path)


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_s_card_says_how_to_load_it_and_what_not_to_make(tmp_path, files, bundles_once, name):
    build_pipeline(name, tmp_path, f"someone/{name}")
    assert (tmp_path / "pipeline.py").read_text() == files[name]
    text = (tmp_path / "README.md").read_text()
    assert f'custom_pipeline="someone/{name}"' in text
    assert "What must not be made" in text
    is_measured = PIPELINES[name].family is STABLE_DIFFUSION
    assert bool(ModelCard(text).data.eval_results) == is_measured
    assert {file for file, _ in check_repository(tmp_path)} == {
        "README.md",
        "pipeline.py",
        f"pictures/{name.partition('_')[0]}.png",
    }


def test_the_model_s_card_is_ready(tmp_path, bundles_once):
    build_model(tmp_path, "someone/still-life")
    files = {file for file, _ in check_repository(tmp_path)}
    assert {"model_index.json", "diffedit.py", "stylediffusion.py", "README.md"} <= files
    assert not {file for file in files if file.endswith((".bin", ".pt", "_xl.py"))}


def test_fields_are_filled_in():
    assert "someone/diffedit" in filled_card("diffedit", repo_id="someone/diffedit")
