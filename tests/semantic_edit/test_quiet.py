"""The set-up says nothing that nobody can use, and keeps back nothing else."""

import logging
import os
import subprocess
import sys

import pytest
from transformers.utils import logging as transformers_logging

from semantic_edit.loading import quiet_loading

WORDS = ("--source", "a red apple on grass", "--prompt", "a blue pear on grass")


def test_an_edit_names_its_file_and_says_nothing_else(tmp_path, picture, model_folder):
    picture.save(tmp_path / "picture.png")
    command = [sys.executable, "-m", "semantic_edit", "edit", "picture.png", *WORDS]
    command += ["--steps", "2", "--mask-threshold", "0.9"]
    environment = {name: value for name, value in os.environ.items() if name != "TRANSFORMERS_VERBOSITY"}
    done = subprocess.run(
        [*command, "--model", str(model_folder), "-o", "out.png"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("out.png\n", "")


@pytest.mark.parametrize(
    ("message", "is_said"),
    [
        ("`ImageProcessor` requires torchvision (not installed); falling back to `ImageProcessorPil`", False),
        ("`SomeProcessor` requires the sentencepiece library, which is not installed", True),
    ],
)
def test_of_transformers_news_that_of_torchvision_alone_is_kept_back(message, is_said):
    logger = logging.getLogger("transformers.utils.import_utils")
    record = logger.makeRecord(logger.name, logging.WARNING, __file__, 1, message, (), None)
    assert bool(logger.filter(record)) == is_said


def test_what_the_libraries_warn_of_while_they_load_is_said():
    before = transformers_logging.get_verbosity()
    try:
        transformers_logging.set_verbosity(logging.WARNING)
        quiet_loading()
        assert transformers_logging.get_verbosity() == logging.WARNING
    finally:
        transformers_logging.set_verbosity(before)
