"""How a mapping network is saved and loaded: always float32, always safetensors, and never only half of it."""

from __future__ import annotations

import inspect
import json
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors.torch import save

from semantic_edit.disk.hub_ids import is_hub_id
from semantic_edit.disk.reading import is_path, read_object, shortened
from semantic_edit.disk.sealed import seal
from semantic_edit.disk.telling import warn_caller
from semantic_edit.disk.writing import settle, write_file, write_folder
from semantic_edit.mapping_networks.card import model_card
from semantic_edit.mapping_networks.config import (
    FORMAT_VERSION,
    check_config,
    check_entries,
    check_format_version,
)

MAPPING_FORMAT = "semantic_edit.mapping_network/1"
LATER = ("frame", "text_fingerprint", "guided_start", "sizes")
"""Entries that the first files lack; the digest covers them only if they are not empty."""

Stored = TypeVar("Stored", bound="StoredModel")


class StoredModel(ModelMixin, ConfigMixin):
    """A diffusers model whose tensors stay float32 and whose files are strictly checked when read."""

    # the loader copies values into the float32 tensors instead of adopting the file's
    _supports_param_buffer_assignment = False

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> StoredModel:
        def move(tensor: torch.Tensor) -> torch.Tensor:
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        return super()._apply(move, recurse)

    @classmethod
    def from_config(
        cls: type[Stored], config: Mapping[str, Any] | None = None, *args: Any, **kwargs: Any
    ) -> Stored:
        """Build a network of zeros from a config; see `ConfigMixin.from_config`.

        Raises:
            ValueError: If an entry is missing, unknown or invalid, or a newer version of the package wrote the config.
        """
        if isinstance(config, Mapping):
            cls._check_stored(config, kwargs)
        return super().from_config(config, *args, **kwargs)

    @classmethod
    def _check_stored(cls, config: Mapping[str, Any], further: Iterable[str] = ()) -> None:
        check_format_version(config.get("format_version", FORMAT_VERSION))
        arguments = list(inspect.signature(cls.__init__).parameters.values())[1:]
        known = [argument.name for argument in arguments]
        required = [argument.name for argument in arguments if argument.default is argument.empty]
        check_entries({*config, *further}, known, required)
        if not further:  # otherwise the rest comes from elsewhere
            usual = {argument.name: argument.default for argument in arguments}
            stored = {**usual, "learning": {}, **config}
            check_config(stored)

    @classmethod
    def _dict_from_json_file(
        cls, json_file: str | os.PathLike[str], dduf_entries: object = None
    ) -> dict[str, Any]:
        """A config file as diffusers reads it, but with every entry checked.

        `dduf_entries` is what diffusers before 0.41 always passes: a pipeline's archive, which never has this config.
        """
        config = read_object(json_file)
        if config.get("_class_name", cls.__name__) != cls.__name__:
            kind = shortened(config.get("_class_name"))
            raise ValueError(f"{os.fspath(json_file)!r} is the config of {kind}, not of a {cls.__name__}.")
        try:
            cls._check_stored(config)
        except ValueError as error:
            raise ValueError(f"{os.fspath(json_file)!r}: {error}") from error
        return config

    @classmethod
    def from_pretrained(
        cls: type[Stored], pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any
    ) -> Stored:
        """Load what `save_pretrained` wrote, from a folder or the Hub; see `ModelMixin.from_pretrained`.

        Only safetensors files are read. A dtype may be given, but the tensors stay float32.

        Args:
            pretrained_model_name_or_path: A folder that `save_pretrained` wrote, or a Hub id.

        Returns:
            The network; with `output_loading_info=True`, a pair of the network and diffusers' report.

        Raises:
            ValueError: If the name is neither a folder nor a Hub id, the config is not that of a mapping network, a
                tensor is missing, unexpected or of the wrong shape, or anything differs from what was saved.
            OSError: If there is no such folder or repository, or no safetensors file in it.
        """
        if kwargs.pop("use_safetensors", True) is False:
            raise ValueError(
                "A mapping network can only be loaded from safetensors; drop `use_safetensors=False`."
            )
        for precision in ("torch_dtype", "dtype"):
            kwargs.pop(precision, None)
        wants_info = kwargs.pop("output_loading_info", False)
        place = pretrained_model_name_or_path
        if not is_path(place):
            raise ValueError(
                f"A mapping network is loaded from a folder or a Hub id, got {shortened(place)}."
            )
        if os.path.lexists(place) and not os.path.isdir(place):
            raise ValueError(
                f"A mapping network is loaded from a folder, and {os.fspath(place)!r} is not one; name the folder that "
                "`save_pretrained` wrote."
            )
        settle(os.path.join(pretrained_model_name_or_path, kwargs.get("subfolder") or ""))
        try:
            with warnings.catch_warnings():
                # an argument that diffusers passes and huggingface_hub calls deprecated
                warnings.filterwarnings("ignore", "The `local_dir_use_symlinks`")
                network, info = super().from_pretrained(
                    pretrained_model_name_or_path,
                    # the only way of loading that reports every difference, not just the first or none
                    **{**kwargs, "low_cpu_mem_usage": False, "ignore_mismatched_sizes": True},
                    use_safetensors=True,
                    output_loading_info=True,
                )
        except OSError as error:
            # diffusers blames a wrong name, whatever the Hub said
            said = error.__cause__ or error.__context__
            raise OSError(f"{error} ({said})" if said else str(error)) from error
        check_tensors(info["missing_keys"], info["unexpected_keys"], info["mismatched_keys"])
        if network.config.digest != network.seal():
            raise ValueError(
                f"The mapping network in {os.fspath(pretrained_model_name_or_path)!r} is not what was saved: its "
                "config or its tensors have been damaged or changed. Download it again, or learn the picture again."
            )
        return (network, info) if wants_info else network  # type: ignore[return-value]  # diffusers' own types

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        *,
        safe_serialization: bool = True,
        variant: str | None = None,
        push_to_hub: bool = False,
        repo_id: str | None = None,
        **hub: Any,
    ) -> None:
        """Write the config, the tensors and a model card; see `ModelMixin.save_pretrained`.

        A single rename makes the switch: before it the folder holds the old network, after it the new one, and at no
        time a mixture.

        Args:
            save_directory: Created if it does not exist.
            variant: As in diffusers, part of the tensors' file name.
            push_to_hub: Also upload the folder, with `hub` as further options, to the repository `repo_id`; by default
                one named after the folder.

        Raises:
            ValueError: If `safe_serialization` is false.
            OSError: Naming the file, if one cannot be written; the folder is then as it was before.
        """
        if not safe_serialization:
            raise ValueError(
                "A mapping network can only be saved as safetensors; drop `safe_serialization=False`."
            )
        self.register_to_config(digest=self.seal())
        stem, _, suffix = SAFETENSORS_WEIGHTS_NAME.rpartition(".")
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
        files = {
            "README.md": model_card(self.config, os.fspath(save_directory)).encode(),
            f"{stem}.{variant}.{suffix}" if variant else SAFETENSORS_WEIGHTS_NAME: save(
                tensors, {"format": "pt"}
            ),
            self.config_name: self.to_json_string().encode(),
        }
        write_folder(save_directory, files)
        if push_to_hub:
            self.push_to_hub(repo_id or Path(save_directory).name, **hub)

    def seal(self) -> str:
        """A digest of the config and the tensors, which differs between any two networks."""
        stored = json.loads(self.to_json_string())
        fields = {
            name: value
            for name, value in stored.items()
            if name[0] != "_" and name != "digest" and (value or name not in LATER)
        }
        return seal(MAPPING_FORMAT, fields, self.state_dict())

    def _upload_folder(
        self, working_dir: str | os.PathLike[str], repo_id: str, *args: Any, **kwargs: Any
    ) -> Any:
        # every upload passes through here, after diffusers has put its own empty card into the folder
        self._forget_local_model(Path(working_dir) / self.config_name)
        self._write_card(working_dir, repo_id)
        return super()._upload_folder(working_dir, repo_id, *args, **kwargs)

    def _forget_local_model(self, config_file: Path) -> None:
        """Remove the path of a local folder, which means nothing to whoever downloads the network."""
        base_model = self.config.base_model
        if not base_model or (is_hub_id(base_model) and not os.path.isdir(base_model)):
            return
        warn_caller(
            f"{base_model!r}, the model that this was learned with, is not a repository on the Hub, so the upload does "
            'not name it. To name one, call `network.register_to_config(base_model="owner/name")` first.'
        )
        self.register_to_config(base_model="")
        self.register_to_config(digest=self.seal())
        write_file(config_file, self.to_json_string().encode())

    def to_json_string(self) -> str:
        """The config as it is written: without the path that it was loaded from, which is private."""
        config = json.loads(super().to_json_string())
        config.pop("_name_or_path", None)
        return json.dumps(config, indent=2, sort_keys=True) + "\n"

    def _write_card(self, folder: str | os.PathLike[str], location: str) -> None:
        write_file(Path(folder) / "README.md", model_card(self.config, location).encode())


def check_tensors(
    missing: Iterable[str], extra: Iterable[str], shapes: Iterable[tuple[str, Sequence[int], Sequence[int]]]
) -> None:
    """Raise unless the tensors are those that a network's config asks for.

    Args:
        missing: Names of tensors that should be there.
        extra: Names of tensors that should not.
        shapes: For each of the other tensors its name, its shape and the shape that it must have.

    Raises:
        ValueError: Listing everything that differs, with both shapes.
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
