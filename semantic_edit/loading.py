"""Load what the command line names: a model or a saved trajectory, or say in one line why not."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from semantic_edit.files import UsageError

if TYPE_CHECKING:
    from semantic_edit.editing import Trajectory
    from semantic_edit.pipelines import DiffEditPipeline


def load_pipeline(
    model: str | None = None, device: str | None = None, dtype: str | None = None, offline: bool = False
) -> DiffEditPipeline:
    """Load a model, from a folder without touching the network, or from the Hub if an id was typed.

    Args:
        model: A folder in diffusers' layout, a Hub id, or None for the embedded still-life model.
        device: A torch device; None takes the fastest there is.
        dtype: "float32", "float16" or "bfloat16"; None takes float16 on CUDA, else float32.
        offline: Take a Hub id from the local cache alone.

    Raises:
        UsageError: If there is no such model or device.
    """
    name, is_folder = _find_model(model)
    import torch
    from diffusers import DDIMScheduler

    from semantic_edit.pipelines import DiffEditPipeline

    device = _find_device(device)
    dtype = dtype or ("float16" if device.startswith("cuda") else "float32")
    try:
        with warnings.catch_warnings():
            # "dtype" is the newer name, which diffusers before 0.40 does not know
            warnings.filterwarnings("ignore", ".*torch_dtype", FutureWarning)
            pipe = DiffEditPipeline.from_pretrained(
                name, torch_dtype=getattr(torch, dtype), local_files_only=is_folder or offline
            )
    except Exception as error:  # each loader below has classes of its own for a missing or damaged file
        raise UsageError(f"cannot load the model {name}: {error}") from error
    if "beta_schedule" in pipe.scheduler.config:
        # Stochastic samplers cannot be inverted, but DDIM walks the same training schedule.
        config = pipe.scheduler.config
        pipe.scheduler = DDIMScheduler.from_config(config, clip_sample=False, thresholding=False)
    return pipe.to(device)


def quiet_loading() -> None:
    """Keep back what the libraries say while they load: bars of a second, and packages that nothing here needs."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()


def load_trajectory(path: Path) -> Trajectory:
    """Read what `--save-trajectory` wrote.

    Raises:
        UsageError: If there is no such file, or it holds something else.
    """
    from semantic_edit.editing import Trajectory

    try:
        return Trajectory.load(path)
    except (OSError, ValueError) as error:
        raise UsageError(error) from error


def _find_model(model: str | None) -> tuple[str, bool]:
    """The folder or Hub id to load, and whether it is a folder."""
    if model is None:
        from semantic_edit.still_life import model_path

        return str(model_path()), True
    path = Path(model)
    if path.is_dir():
        if not (path / "model_index.json").is_file():
            raise UsageError(f"--model {model}: a folder without model_index.json is no diffusers model")
        return model, True
    if path.exists():
        raise UsageError(f"--model {model} is a file; name a folder in diffusers' layout or a Hub id")
    owner, _, name = model.partition("/")
    if not owner.strip(".~") or not name or "/" in name:
        raise UsageError(f"--model {model}: there is no such folder, and a Hub id reads owner/name")
    return model, False


def _find_device(asked: str | None) -> str:
    import torch

    if asked is None:
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(1, device=asked)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"--device {asked} cannot be used: {str(error).splitlines()[0]}") from error
    return asked
