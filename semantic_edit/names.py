"""Names that the command line needs before the rooms that define them are imported, which takes seconds.

`tests/semantic_edit/test_names.py` checks that they agree with the rooms.
"""

PRESETS = ("default", "paper")  # `pipelines.presets.PRESETS`
SCHEDULES = ("none", "short", "long", "published")  # of `mapping_networks.LearningSettings`, which makes each
VARIANTS = ("modulate", "direct")  # `mapping_networks.VARIANTS`
AUTOMATIC = "auto"  # `pipelines.confining.AUTOMATIC`
CHECKPOINT_FILE = "inputs.json"  # `mapping_networks.checkpoint.INPUTS_FILE`
EDIT_TYPES = ("replace", "refine")  # `attention_processors.tokens.AlignmentKind`
STILL_LIFE = "still-life"  # `datasets.STILL_LIFE`
LAYOUTS = ("folder", "pie-bench", "imagenet", "coco")  # `datasets.LAYOUTS`
ON_BAD = ("fail", "skip")  # `datasets.OnBad`
EDIT_KINDS = ("colour", "object", "surface")  # `still_life.cases.EDIT_KINDS`
SPLITS = ("test", "validation")  # `still_life.scenes.SPLITS` that no model was trained on
BATCH_METHODS = ("diffedit", "restyle")  # `batch.options.METHODS`
BATCH_FILE = "batch.json"  # `batch.kept.SETTINGS`
