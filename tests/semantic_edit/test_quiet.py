"""The set-up says nothing that nobody can use, and keeps back nothing else."""

import logging

import pytest
from transformers.utils import logging as transformers_logging

from semantic_edit.loading import quiet_loading


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
