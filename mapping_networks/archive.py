"""A mapping network's folder as a zip, to download and to upload."""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from semantic_edit.mapping_networks.network import MappingNetwork

MOST_UNPACKED = 256 * 2**20
CARD, CONFIG, TENSORS = "README.md", "config.json", "diffusion_pytorch_model.safetensors"


def pack_network(network: MappingNetwork) -> bytes:
    """A mapping network as a zip of the folder that `save_pretrained` writes."""
    archive = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(archive, "w") as packed:
        network.save_pretrained(folder)
        for path in sorted(Path(folder).iterdir()):
            packed.write(path, path.name)
    return archive.getvalue()


def unpack_network(archive: Path) -> MappingNetwork:
    """Read a zip that anyone may have made, as strictly as a network from the Hub is read.

    Args:
        archive: The file.

    Raises:
        ValueError, OSError: If it is not a zip of a mapping network's folder, or the network is damaged.
    """
    if not zipfile.is_zipfile(archive):
        raise ValueError(f"{archive.name} is not a zip; pack the folder of a mapping network.")
    with zipfile.ZipFile(archive) as packed, tempfile.TemporaryDirectory() as folder:
        files = [one for one in packed.infolist() if not one.is_dir()]
        named = {PurePosixPath(one.filename).name: one for one in files}
        if len(named) != len(files) or not {CONFIG, TENSORS} <= named.keys() <= {CARD, CONFIG, TENSORS}:
            raise ValueError(f"{archive.name} must hold {CONFIG}, {TENSORS} and nothing else but a {CARD}.")
        if sum(one.file_size for one in files) > MOST_UNPACKED:
            raise ValueError(f"{archive.name} holds more than {MOST_UNPACKED // 2**20} MB when unpacked.")
        try:
            for name, one in named.items():
                (Path(folder) / name).write_bytes(packed.read(one))
        except (
            zipfile.BadZipFile,
            NotImplementedError,
            RuntimeError,
        ) as error:  # damaged, unusual or encrypted
            raise ValueError(f"{archive.name} cannot be unpacked: {error}") from None
        try:
            return MappingNetwork.from_pretrained(folder, local_files_only=True)
        except (ValueError, OSError) as error:
            raise ValueError(str(error).replace(folder, archive.name)) from None
