"""Run in a process without this package: load pipelines in the ways that files list, and edit.

    echo FOLDER | python load_and_edit.py

For each folder on its input it does what the folder's `ways.json` lists, writes `results.npz` beside it, and prints 0;
or it prints another number, and `told.txt` there says why. diffusers is imported once, but each folder is the work of a
child that has loaded no pipeline before.

A way has a label, a pipeline's name ("diffedit", "stylediffusion_xl", ...), a model, and the arguments of
`DiffusionPipeline.from_pretrained`, or with "from_pipe" those of `from_pipe` for the model as diffusers' own pipeline.
A result is the edit's pixels under the way's label, or the error's text.
"""

import importlib.util
import json
import os
import sys
import traceback
import warnings
from pathlib import Path

import diffusers
import numpy as np
import PIL.Image
import torch
from diffusers.utils import dynamic_modules_utils


def main() -> None:
    forget_editable_installs()
    # diffusers asks PyPI which versions of it there are before it looks into the community's mirror
    dynamic_modules_utils.get_diffusers_versions = lambda: [diffusers.__version__]
    diffusers.utils.logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    if "OMP_NUM_THREADS" not in os.environ:  # as the tests themselves
        torch.set_num_threads(1)
    assert (
        diffusers.StableDiffusionXLPipeline
    )  # imports most of what a child needs, which diffusers does when asked
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os._exit(work_in(line.rstrip("\n")))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def forget_editable_installs() -> None:
    """As if this package had never been installed: an editable install is an entry here."""
    sys.meta_path[:] = [
        finder for finder in sys.meta_path if "editable" not in str(getattr(finder, "__module__", ""))
    ]
    assert importlib.util.find_spec("semantic_edit") is None, "this process must not have the package"


def work_in(folder: str) -> int:
    """What the folder's file lists; 0 if it could be done."""
    os.chdir(folder)
    told = os.open("told.txt", os.O_WRONLY | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(told, stream)
    dynamic_modules_utils.HF_MODULES_CACHE = (
        f"{folder}/modules"  # where diffusers keeps the files that it runs
    )
    try:
        request = json.loads(Path("ways.json").read_text())
        results = {way["label"]: result_of(way, request) for way in request["ways"]}
        assert importlib.util.find_spec("semantic_edit") is None
        np.savez("results.npz", **results)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def result_of(way, request):
    try:
        return edited(load(way), way["name"], request)
    except Exception as error:
        if not way.get("fails"):
            raise
        return np.array(f"{type(error).__name__}: {error}")


def load(way):
    if way.get("from_pipe"):
        loaded = diffusers.DiffusionPipeline.from_pretrained(way["model"])
        return diffusers.DiffusionPipeline.from_pipe(loaded, **way["arguments"])
    return diffusers.DiffusionPipeline.from_pretrained(way["model"], **way["arguments"])


def edited(pipe, name, request):
    pipe.set_progress_bar_config(disable=True)
    if name.startswith("stylediffusion"):
        network = pipe.load_mapping_network(request["mappings"][name])
        return pipe("a green pear on grass", mapping_network=network, output_type="np").images
    picture = PIL.Image.open(request["picture"])
    return pipe(
        image=picture,
        width=picture.width,
        height=picture.height,
        source_prompt="a red apple on grass",
        prompt="a green pear on grass",
        num_inference_steps=4,
        num_maps_per_mask=2,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
    ).images


if __name__ == "__main__":
    main()
