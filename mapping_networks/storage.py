"""How a mapping network is kept: always float32, always safetensors, and never half of it."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin

from semantic_edit.mapping_networks.card import HUB_ID, model_card
from semantic_edit.mapping_networks.checkpoint import tensor_digest
from semantic_edit.mapping_networks.config import FORMAT_VERSION, check_entries, check_format_version


class StoredModel(ModelMixin, ConfigMixin):
    """A diffusers model whose tensors stay float32 and whose files are read strictly or not at all."""

    # the loader copies values into the float32 tensors instead of adopting the file's
    _supports_param_buffer_assignment = False

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> StoredModel:
        def move(tensor: torch.Tensor) -> torch.Tensor:
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        return super()._apply(move, recurse)

    @classmethod
    def from_config(cls, config: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Build a network of zeros from a config; see `ConfigMixin.from_config`.

        Raises:
            ValueError: If an entry is missing, unknown or wrong, or a newer version wrote it.
        """
        if isinstance(config, Mapping):
            check_format_version(config.get("format_version", FORMAT_VERSION))
            arguments = list(inspect.signature(cls.__init__).parameters.values())[1:]
            known = [argument.name for argument in arguments]
            required = [argument.name for argument in arguments if argument.default is argument.empty]
            check_entries({*config, *kwargs}, known, required)
        return super().from_config(config, *args, **kwargs)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any) -> Any:
        """Load what `save_pretrained` wrote, from a folder or the Hub; see `ModelMixin.from_pretrained`.

        Only safetensors are read. A dtype is accepted, and the tensors stay float32.

        Raises:
            ValueError: If the config is not a mapping network's, a tensor is missing, extra or of another shape, or the
                values are not those that were saved.
            OSError: If there is no such folder or repository, or no safetensors file in it.
        """
        if kwargs.pop("use_safetensors", True) is False:
            raise ValueError("A mapping network is read from safetensors only; drop `use_safetensors=False`.")
        for name in ("torch_dtype", "dtype"):
            kwargs.pop(name, None)
        wants_info = kwargs.pop("output_loading_info", False)
        try:
            with warnings.catch_warnings():
                # an argument of diffusers' own, which huggingface_hub calls deprecated
                warnings.filterwarnings("ignore", "The `local_dir_use_symlinks`")
                network, info = super().from_pretrained(
                    pretrained_model_name_or_path,
                    # the one way of loading that reports every difference instead of the first, or none
                    **{**kwargs, "low_cpu_mem_usage": False, "ignore_mismatched_sizes": True},
                    use_safetensors=True,
                    output_loading_info=True,
                )
        except OSError as error:
            # diffusers guesses at a wrong name, whatever the Hub said
            said = error.__cause__ or error.__context__
            raise OSError(f"{error} ({said})" if said else str(error)) from error
        check_tensors(info["missing_keys"], info["unexpected_keys"], info["mismatched_keys"])
        if network.config.digest not in ("", _digest(network)):
            raise ValueError(
                f"The tensors in {os.fspath(pretrained_model_name_or_path)!r} are not those that were saved with its "
                "config: a file was damaged or changed. Get it again, from the Hub with `force_download=True`."
            )
        return (network, info) if wants_info else network

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        *,
        safe_serialization: bool = True,
        push_to_hub: bool = False,
        **kwargs: Any,
    ) -> None:
        """Write the config, the tensors and a model card; see `ModelMixin.save_pretrained`.

        Everything is written beside its place first. The config goes away before the tensors change and comes
        back last, so a reader sees the old network, the new one or none, never a mixture.

        Raises:
            ValueError: If asked to pickle.
        """
        if not safe_serialization:
            raise ValueError(
                "A mapping network is saved as safetensors only; drop `safe_serialization=False`."
            )
        self.register_to_config(digest=_digest(self))
        hub = {
            name: kwargs.pop(name)
            for name in ("commit_message", "private", "token", "create_pr")
            if name in kwargs
        }
        folder = Path(save_directory)
        repo_id = kwargs.pop("repo_id", folder.name)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=folder) as unfinished:
            super().save_pretrained(unfinished, **kwargs)
            self._write_card(unfinished, os.fspath(save_directory))
            usual = (Path(unfinished) / self.config_name).stat().st_mode
            for path in Path(unfinished).iterdir():
                path.chmod(usual)  # safetensors makes files that their owner alone can read
            (folder / self.config_name).unlink(missing_ok=True)
            for path in sorted(Path(unfinished).iterdir(), key=lambda path: path.name == self.config_name):
                os.replace(path, folder / path.name)
        if push_to_hub:
            self.push_to_hub(repo_id, **hub)

    def _upload_folder(
        self, working_dir: str | os.PathLike[str], repo_id: str, *args: Any, **kwargs: Any
    ) -> Any:
        # every upload passes here, after diffusers has put its empty card into the folder
        self._forget_local_model(Path(working_dir) / self.config_name)
        self._write_card(working_dir, repo_id)
        return super()._upload_folder(working_dir, repo_id, *args, **kwargs)

    def _forget_local_model(self, config_file: Path) -> None:
        """Whoever downloads the network must not read the path of a folder that they do not have."""
        base_model = self.config.base_model
        if not base_model or (HUB_ID.fullmatch(base_model) and not os.path.isdir(base_model)):
            return
        warnings.warn(
            f"{base_model!r}, the model that this was learned with, is no repository on the Hub, so the upload does "
            'not name it. `network.register_to_config(base_model="owner/name")` names one.',
            stacklevel=2,
        )
        self.register_to_config(base_model="")
        config = json.loads(config_file.read_text(encoding="utf-8"))
        config_file.write_text(json.dumps({**config, "base_model": ""}, indent=2) + "\n", encoding="utf-8")

    def to_json_string(self) -> str:
        """The config as it is written: without the place that it was loaded from, which is nobody else's business."""
        config = json.loads(super().to_json_string())
        config.pop("_name_or_path", None)
        return json.dumps(config, indent=2, sort_keys=True) + "\n"

    def _write_card(self, folder: str | os.PathLike[str], location: str) -> None:
        (Path(folder) / "README.md").write_text(model_card(self.config, location), encoding="utf-8")


def _digest(network: StoredModel) -> str:
    digests = {name: tensor_digest(value) for name, value in network.state_dict().items()}
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()[:16]


def check_tensors(
    missing: Iterable[str], extra: Iterable[str], shapes: Iterable[tuple[str, Sequence[int], Sequence[int]]]
) -> None:
    """Refuse tensors that are not those of a network's config.

    shapes: Of each other tensor the name, the shape that it has and the one that it must have.

    Raises:
        ValueError: Naming all that differ, with both sides.
    """
    listed = [f"{name}: missing" for name in sorted(missing)]
    listed += [f"{name}: not one of this network's" for name in sorted(extra)]
    listed += [
        f"{name}: got {tuple(got)}, the config asks for {tuple(own)}"
        for name, got, own in sorted(shapes)
        if tuple(got) != tuple(own)
    ]
    if listed:
        raise ValueError(f"The tensors do not fit the mapping network's config ({'; '.join(listed)}).")
