from typing import get_args

from semantic_edit import names
from semantic_edit.attention_processors.tokens import AlignmentKind
from semantic_edit.batch.kept import SETTINGS
from semantic_edit.batch.options import METHODS
from semantic_edit.datasets import LAYOUTS, STILL_LIFE, OnBad
from semantic_edit.mapping_networks import VARIANTS, LearningSettings
from semantic_edit.mapping_networks.checkpoint import INPUTS_FILE
from semantic_edit.pipelines.confining import AUTOMATIC
from semantic_edit.pipelines.presets import PRESETS
from semantic_edit.still_life.cases import EDIT_KINDS
from semantic_edit.still_life.scenes import SPLITS


def test_what_the_command_line_knows_is_what_the_rooms_have():
    assert set(names.PRESETS) == set(PRESETS)
    assert names.VARIANTS == VARIANTS
    assert names.AUTOMATIC == AUTOMATIC
    assert names.CHECKPOINT_FILE == INPUTS_FILE
    assert get_args(AlignmentKind) == names.EDIT_TYPES
    assert names.STILL_LIFE == STILL_LIFE
    assert names.LAYOUTS == LAYOUTS
    assert get_args(OnBad) == names.ON_BAD
    assert tuple(METHODS) == names.BATCH_METHODS
    assert SETTINGS == names.BATCH_FILE
    assert names.EDIT_KINDS == EDIT_KINDS
    assert set(names.SPLITS) == set(SPLITS) - {"train"}
    made = [name for name in vars(LearningSettings) if isinstance(vars(LearningSettings)[name], classmethod)]
    assert tuple(made) == names.SCHEDULES
