"""Every way in which diffusers loads a custom pipeline, in fresh processes that do not have this package.

What each edits is compared with the installed package's result, bit for bit.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import diffusers
import numpy as np
import pytest

from semantic_edit.pipelines import DiffEditPipeline, StyleDiffusionPipeline
from semantic_edit.publishing.published import PIPELINES
from tests.publishing.load_and_edit import edited

SCRIPT = Path(__file__).parent / "load_and_edit.py"


@pytest.fixture(scope="module")
def model(tmp_path_factory, make_style_pipe, files) -> Path:
    """A model's folder with both pipelines' files inside; by itself it is StableDiffusionPipeline's."""
    folder = tmp_path_factory.mktemp("published") / "model"
    make_style_pipe().save_pretrained(folder)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "_class_name": "StableDiffusionPipeline"}))
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return folder


@pytest.fixture(scope="module")
def own_models(model) -> dict[str, Path]:
    """The same model, loading a pipeline of its own."""
    folders = {}
    for name, published in PIPELINES.items():
        folders[name] = Path(shutil.copytree(model, model.parent / f"own-{name}"))
        index = folders[name] / "model_index.json"
        config = {**json.loads(index.read_text()), "_class_name": [name, published.class_name]}
        index.write_text(json.dumps(config))
    return folders


@pytest.fixture(scope="module")
def code(tmp_path_factory, files) -> Path:
    """A folder for each pipeline, as its code repository has it, and its file by name."""
    folder = tmp_path_factory.mktemp("code")
    for name, text in files.items():
        # not beside the file of the same name, which diffusers would take in its place
        (folder / "repositories" / name).mkdir(parents=True)
        (folder / "repositories" / name / "pipeline.py").write_text(text)
        (folder / f"{name}.py").write_text(text)
    return folder


@pytest.fixture(scope="module")
def request_for(tmp_path_factory, learned, picture):
    """What every process is given besides the ways: the picture, and a mapping network."""
    folder = tmp_path_factory.mktemp("request")
    picture.save(folder / "picture.png")
    learned.save_pretrained(folder / "mapping")
    return {"picture": str(folder / "picture.png"), "mapping": str(folder / "mapping")}


@pytest.fixture(scope="module")
def expected(model, request_for) -> dict[str, np.ndarray]:
    """What the installed package makes of it."""
    classes = {"diffedit": DiffEditPipeline, "stylediffusion": StyleDiffusionPipeline}
    return {name: edited(classes[name].from_pretrained(model), name, request_for) for name in PIPELINES}


@pytest.fixture
def run(tmp_path, request_for, hub):
    """Loads in a fresh process whose only Hub is `hub`, and gives results by label."""

    def run(ways: list[dict], token: str | None = None) -> dict[str, np.ndarray]:
        (tmp_path / "ways.json").write_text(json.dumps({**request_for, "ways": ways}))
        done = subprocess.run(
            [sys.executable, SCRIPT, "ways.json", "results.npz"],
            cwd=tmp_path,
            env=hub.environment(token) | {"TRANSFORMERS_VERBOSITY": "error"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        with np.load(tmp_path / "results.npz") as results:
            return dict(results)

    return run


def way(label: str, method: str, model: object, fails: bool = False, from_pipe: bool = False, **arguments):
    arguments = {name: str(value) if isinstance(value, Path) else value for name, value in arguments.items()}
    return {
        "label": f"{method}, {label}",
        "method": method,
        "model": str(model),
        "arguments": arguments,
        "fails": fails,
        "from_pipe": from_pipe,
    }


def assert_all_equal(results, expected):
    for label, result in results.items():
        np.testing.assert_array_equal(result, expected[label.partition(",")[0]], err_msg=label)


def test_local_ways_of_both_pipelines_each_twice_in_one_process(run, model, own_models, code, expected):
    trusted = {"trust_remote_code": True}
    ways = []
    for again in ("", " again"):
        for name in PIPELINES:
            ways += [
                way(f"model's folder{again}", name, model, custom_pipeline=name, **trusted),
                way(f"path of a file{again}", name, model, custom_pipeline=code / f"{name}.py", **trusted),
                way(f"model's own{again}", name, own_models[name], **trusted),
                way(
                    f"from_pipe{again}",
                    name,
                    model,
                    from_pipe=True,
                    custom_pipeline=code / f"{name}.py",
                    **trusted,
                ),
            ]
    results = run(ways)
    assert len(results) == 16
    assert_all_equal(results, expected)


@pytest.mark.parametrize("name", PIPELINES)
def test_a_local_folder(run, model, code, expected, name):
    (other,) = PIPELINES.keys() - {name}
    folders = code / "repositories"
    trusted = {"trust_remote_code": True}
    results = run(
        [
            way("folder", name, model, custom_pipeline=folders / name, **trusted),
            way("folder again", name, model, custom_pipeline=folders / name, **trusted),
            way(
                "folder beside another", other, model, fails=True, custom_pipeline=folders / other, **trusted
            ),
        ]
    )
    # diffusers keeps every local folder's pipeline.py in one module: docs/publishing.md says what to do instead
    assert "Multiple classes" in str(results.pop(f"{other}, folder beside another"))
    assert len(results) == 2
    assert_all_equal(results, expected)


def test_ways_through_the_hub(run, hub, model, own_models, code, files, expected):
    def contents(folder: Path) -> dict[str, bytes]:
        paths = [path for path in folder.rglob("*") if path.is_file()]
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}

    hub.add_repo("someone/model", contents(model))
    mirrored = {f"v{diffusers.__version__}/{name}.py": text.encode() for name, text in files.items()}
    hub.add_repo("diffusers/community-pipelines-mirror", mirrored, repo_type="dataset")
    plain = {name: data for name, data in contents(model).items() if not name.endswith(".py")}
    hub.add_repo("someone/plain", plain)
    ways = []
    for name in PIPELINES:
        hub.add_repo(f"someone/own-{name}", contents(own_models[name]))
        commit = hub.add_repo(f"someone/{name}", {"pipeline.py": files[name].encode()})
        trusted = {"trust_remote_code": True}
        pinned = {"custom_pipeline": f"someone/{name}", "custom_revision": commit.sha}
        ways += [
            way("model's repository", name, "someone/model", custom_pipeline=name, **trusted),
            way("code repository", name, model, **pinned, **trusted),
            way("code repository, Hub's model", name, "someone/plain", **pinned, **trusted),
            way("mirror", name, "someone/plain", custom_pipeline=name),
            way("mirror, local model", name, own_models[name].parent / "plain", custom_pipeline=name),
            way("model's own", name, f"someone/own-{name}", **trusted),
        ]
    (model.parent / "plain").mkdir()
    for name, data in plain.items():
        (model.parent / "plain" / name).parent.mkdir(exist_ok=True)
        (model.parent / "plain" / name).write_bytes(data)
    results = run(ways)
    assert len(results) == 12
    assert_all_equal(results, expected)


def test_without_trust_nothing_of_a_repository_runs(run, hub, model, own_models, code, files):
    hub.add_repo("someone/diffedit", {"pipeline.py": files["diffedit"].encode()})
    refused = {"fails": True}
    results = run(
        [
            way("model's folder", "diffedit", model, custom_pipeline="diffedit", **refused),
            way("path of a file", "diffedit", model, custom_pipeline=code / "diffedit.py", **refused),
            way("folder", "diffedit", model, custom_pipeline=code / "repositories" / "diffedit", **refused),
            way("model's own", "diffedit", own_models["diffedit"], **refused),
            way("code repository", "diffedit", model, custom_pipeline="someone/diffedit", **refused),
        ]
    )
    assert len(results) == 5
    for label, result in results.items():
        assert "trust_remote_code=True" in str(result), label
