"""Run by itself in a fresh process, without this package: load pipelines in the ways that a file lists, and edit.

    python load_and_edit.py ways.json results.npz

A way has a label, a pipeline's name ("diffedit", "stylediffusion_xl", ...), a model, and the arguments of
`DiffusionPipeline.from_pretrained`, or with "from_pipe" those of `from_pipe` for the model as diffusers' own pipeline.
A result is the edit's pixels under the way's label, or the error's text.
"""

import importlib.util
import json
import os
import sys
import warnings
from pathlib import Path


def forget_editable_installs() -> None:
    """As if this package had never been installed: an editable install is an entry here."""
    sys.meta_path[:] = [
        finder for finder in sys.meta_path if "editable" not in str(getattr(finder, "__module__", ""))
    ]
    assert importlib.util.find_spec("semantic_edit") is None, "this process must not have the package"


def main(ways_file: str, results_file: str) -> None:
    forget_editable_installs()
    import diffusers
    import numpy as np
    import torch
    from diffusers.utils import dynamic_modules_utils

    # diffusers asks PyPI which versions of it there are before it looks into the community's mirror
    dynamic_modules_utils.get_diffusers_versions = lambda: [diffusers.__version__]
    diffusers.utils.logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    if "OMP_NUM_THREADS" not in os.environ:  # as the tests themselves
        torch.set_num_threads(1)
    request = json.loads(Path(ways_file).read_text())
    results = {}
    for way in request["ways"]:
        try:
            result = edited(load(diffusers, way), way["name"], request)
        except Exception as error:
            if not way.get("fails"):
                raise
            result = np.array(f"{type(error).__name__}: {error}")
        results[way["label"]] = result
    assert importlib.util.find_spec("semantic_edit") is None
    np.savez(results_file, **results)


def load(diffusers, way):
    if way.get("from_pipe"):
        loaded = diffusers.DiffusionPipeline.from_pretrained(way["model"])
        return diffusers.DiffusionPipeline.from_pipe(loaded, **way["arguments"])
    return diffusers.DiffusionPipeline.from_pretrained(way["model"], **way["arguments"])


def edited(pipe, name, request):
    import PIL.Image
    import torch

    pipe.set_progress_bar_config(disable=True)
    if name.startswith("stylediffusion"):
        network = pipe.load_mapping_network(request["mappings"][name])
        return pipe("a green pear on grass", mapping_network=network, output_type="np").images
    return pipe(
        image=PIL.Image.open(request["picture"]),
        source_prompt="a red apple on grass",
        prompt="a green pear on grass",
        num_inference_steps=4,
        num_maps_per_mask=2,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
    ).images


if __name__ == "__main__":
    main(*sys.argv[1:])
