"""The supported versions of diffusers: what is refused, and that the lowest works as the one installed here does."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import diffusers
import numpy as np
import PIL.Image
import pytest

from semantic_edit.disk.models import STABLE_DIFFUSION
from semantic_edit.pipelines import DiffEditPipeline, StyleDiffusionPipeline
from semantic_edit.pipelines.versions import HIGHEST_TESTED, LOWEST, check_diffusers
from semantic_edit.publishing.published import PIPELINES, pipelines_for
from semantic_edit.still_life import model_path
from semantic_edit.still_life.scenes import sample_scene
from tests.publishing.load_and_edit import edited
from tests.publishing.test_loading import SCRIPT, way

TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("version", ["0.37.0", "0.42.1", "0.38.0.dev0", diffusers.__version__])
def test_versions_of_the_range_pass(version):
    check_diffusers(version)


@pytest.mark.parametrize("version", ["0.36.0", "0.8.1", "1.0.0", "1.2.3.dev0"])
def test_other_versions_are_refused_with_the_range(version):
    with pytest.raises(
        ImportError, match=rf"from 0\.37 to below 1\.0.*diffusers {version} is installed.*pip install"
    ):
        check_diffusers(version)


def test_a_version_that_nobody_tested_is_told_of():
    with pytest.warns(UserWarning, match=r"0\.99\.0 is newer than 0\.42"):
        check_diffusers("0.99.0")


def test_the_newest_tested_is_the_one_installed():
    assert tuple(map(int, diffusers.__version__.split(".")[:2])) <= HIGHEST_TESTED


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_s_file_refuses_another_version_by_itself(files, name, tmp_path, monkeypatch):
    (tmp_path / f"file_{name}.py").write_text(files[name])
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(diffusers, "__version__", "0.36.0")
    with pytest.raises(ImportError, match=r"^This pipeline works with diffusers from 0\.37"):
        importlib.import_module(f"file_{name}")


@pytest.fixture(scope="module")
def lowest(tmp_path_factory):
    """A folder with the lowest version of diffusers and what stood beside it, over the newest of everything else."""
    folder = tmp_path_factory.mktemp("lowest")
    wanted = [f"diffusers=={'.'.join(map(str, LOWEST))}.0", "transformers==4.51.3", "tokenizers==0.21.4"]
    wanted += ["huggingface_hub==0.34.6", "httpx", "httpcore", "anyio", "sniffio", "h11"]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder]
    assert subprocess.run([*pip, *wanted]).returncode == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "tests", ["mapping_networks/test_storage.py", "publishing/test_upload.py", "semantic_edit/test_hub.py"]
)
def test_what_stands_on_the_insides_of_the_libraries_works_with_the_lowest(lowest, tests):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", TESTS / tests],
        cwd=TESTS.parent,
        env={**os.environ, "PYTHONPATH": str(lowest)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.slow
def test_the_lowest_version_edits_as_this_one_does(lowest, files, tmp_path):
    # the embedded model: what transformers 5 saves of a tokenizer, version 4 does not read
    picture = PIL.Image.fromarray(sample_scene(7, objects=1).render())
    picture.save(tmp_path / "picture.png")
    learned = StyleDiffusionPipeline.from_pretrained(model_path()).learn_mapping(
        picture, "a pink apple on grass", 4
    )
    learned.save_pretrained(tmp_path / "mapping")
    mappings = {"stylediffusion": str(tmp_path / "mapping")}
    request = {"picture": str(tmp_path / "picture.png"), "mappings": mappings}
    ways = []
    for name in pipelines_for(STABLE_DIFFUSION):
        (tmp_path / f"{name}.py").write_text(files[name])
        ways.append(
            way(
                "it",
                name,
                model_path(),
                custom_pipeline=tmp_path / f"{name}.py",
                trust_remote_code=True,
            )
        )
    (tmp_path / "ways.json").write_text(json.dumps({**request, "ways": ways}))
    done = subprocess.run(
        [sys.executable, SCRIPT],
        input=f"{tmp_path}\n",
        env={"PYTHONPATH": str(lowest), "HF_HOME": str(tmp_path / "home"), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "0\n", done.stderr + (tmp_path / "told.txt").read_text()
    classes = {"diffedit": DiffEditPipeline, "stylediffusion": StyleDiffusionPipeline}
    with np.load(tmp_path / "results.npz") as results:
        for name, made in classes.items():
            expected = edited(made.from_pretrained(model_path()), name, request)
            np.testing.assert_allclose(results[f"{name}, it"], expected, atol=1e-4)
