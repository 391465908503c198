"""Every way in which diffusers loads a custom pipeline, in a process that does not have this package.

What each edits is compared with the installed package's result, bit for bit.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import diffusers
import numpy as np
import pytest

from semantic_edit import pipelines
from semantic_edit.cli import main
from semantic_edit.disk.models import STABLE_DIFFUSION, STABLE_DIFFUSION_XL
from semantic_edit.publishing.published import PIPELINES, pipelines_for
from tests.flow.conftest import FLOWS
from tests.hub.conftest import ACCOUNTS, WRITE_TOKEN
from tests.hub.server import HubServer
from tests.publishing.load_and_edit import edited

SCRIPT = Path(__file__).parent / "load_and_edit.py"
# what loads a pipeline loads every other one by the same code
ONE, *OTHERS = PIPELINES
EACH = pytest.mark.parametrize(
    "name", [ONE, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]
)
# what loads a family's pipelines loads the other's by the same code
OF_EACH_FAMILY = pytest.mark.parametrize(
    "names",
    [
        pytest.param(tuple(pipelines_for(STABLE_DIFFUSION)), id="sd"),
        pytest.param(tuple(pipelines_for(STABLE_DIFFUSION_XL)), id="sdxl", marks=pytest.mark.slow),
        *(
            pytest.param(tuple(pipelines_for(flow.edit._family)), id=flow.name, marks=pytest.mark.slow)
            for flow in FLOWS
        ),
    ],
)


@pytest.fixture(scope="module")
def models(tmp_path_factory, make_style_pipe, make_xl_style_pipe, files) -> dict[str, Path]:
    """By pipeline a model's folder with the files of its family's pipelines inside; by itself it is diffusers' own."""
    folders = {}
    flows = [pipelines.pipeline_around(family.edit, family.make()) for family in FLOWS]
    for pipe in (make_style_pipe(), make_xl_style_pipe(), *flows):
        folder = tmp_path_factory.mktemp("published") / "model"
        pipe.save_pretrained(folder)
        assert json.loads((folder / "model_index.json").read_text())["_class_name"] == pipe._family.pipeline
        for name in pipelines_for(pipe._family):
            (folder / f"{name}.py").write_text(files[name])
            folders[name] = folder
    return folders


@pytest.fixture(scope="module")
def own_models(models) -> dict[str, Path]:
    """The same models, loading a pipeline of their own."""
    folders = {}
    for name, model in models.items():
        folders[name] = Path(shutil.copytree(model, model.parent / f"own-{name}"))
        index = folders[name] / "model_index.json"
        config = {**json.loads(index.read_text()), "_class_name": [name, PIPELINES[name].class_name]}
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
def request_for(tmp_path_factory, learned, xl_learned, picture):
    """What every process is given besides the ways: the picture, and mapping networks."""
    folder = tmp_path_factory.mktemp("request")
    picture.save(folder / "picture.png")
    networks = {"stylediffusion": learned, "stylediffusion_xl": xl_learned}
    for name, network in networks.items():
        network.save_pretrained(folder / name)
    return {
        "picture": str(folder / "picture.png"),
        "mappings": {name: str(folder / name) for name in networks},
    }


@pytest.fixture(scope="module")
def expected(models, request_for) -> dict[str, np.ndarray]:
    """What the installed package makes of it."""
    classes = {name: getattr(pipelines, published.class_name) for name, published in PIPELINES.items()}
    return {
        name: edited(classes[name].from_pretrained(models[name]), name, request_for) for name in PIPELINES
    }


@pytest.fixture(scope="module")
def hub(tmp_path_factory, files) -> Iterator[HubServer]:
    """The only Hub of the process that loads, from its beginning to its end, with the community's mirror."""
    mirrored = {f"v{diffusers.__version__}/{name}.py": text.encode() for name, text in files.items()}
    with HubServer(tmp_path_factory.mktemp("hub"), ACCOUNTS) as server:
        server.add_repo("diffusers/community-pipelines-mirror", mirrored, repo_type="dataset")
        yield server


@pytest.fixture(scope="module")
def process(hub) -> Iterator[subprocess.Popen[str]]:
    environment = hub.environment() | {"TRANSFORMERS_VERBOSITY": "error"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, SCRIPT], env=environment, text=True, **pipes) as process:
        yield process
        process.kill()  # it has nothing to put away, and would take its time


@pytest.fixture
def run(tmp_path, request_for, process):
    """Loads where no pipeline was loaded before, and gives results by label."""

    def run(ways: list[dict], **changes: object) -> dict[str, np.ndarray]:
        (tmp_path / "ways.json").write_text(json.dumps({**request_for, "ways": ways, **changes}))
        (tmp_path / "told.txt").touch()
        process.stdin.write(f"{tmp_path}\n")
        process.stdin.flush()
        assert process.stdout.readline() == "0\n", (tmp_path / "told.txt").read_text()[-3000:]
        with np.load(tmp_path / "results.npz") as results:
            return dict(results)

    return run


def way(label: str, name: str, model: object, fails: bool = False, from_pipe: bool = False, **arguments):
    arguments = {key: str(value) if isinstance(value, Path) else value for key, value in arguments.items()}
    return {
        "label": f"{name}, {label}",
        "name": name,
        "model": str(model),
        "arguments": arguments,
        "fails": fails,
        "from_pipe": from_pipe,
    }


def assert_all_equal(results, expected):
    for label, result in results.items():
        np.testing.assert_array_equal(result, expected[label.partition(",")[0]], err_msg=label)


@OF_EACH_FAMILY
def test_local_ways_of_all_pipelines_each_twice_in_one_process(
    run, models, own_models, code, expected, names
):
    trusted = {"trust_remote_code": True}
    ways = []
    for again in ("", " again"):
        for name in names:
            model = models[name]
            file = code / f"{name}.py"
            ways += [
                way(f"model's folder{again}", name, model, custom_pipeline=name, **trusted),
                way(f"path of a file{again}", name, model, custom_pipeline=file, **trusted),
                way(f"model's own{again}", name, own_models[name], **trusted),
                way(f"from_pipe{again}", name, model, from_pipe=True, custom_pipeline=file, **trusted),
            ]
    results = run(ways)
    assert len(results) == 8 * len(names)
    assert_all_equal(results, expected)


@EACH
def test_a_local_folder(run, models, code, expected, name):
    (other,) = pipelines_for(PIPELINES[name].family).keys() - {name}
    folders, model = code / "repositories", models[name]
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


def test_a_file_of_the_other_families(run, models, code, expected):
    others = PIPELINES.keys() - pipelines_for(STABLE_DIFFUSION)
    results = run(
        [
            way(
                "path of a file",
                name,
                models[name],
                custom_pipeline=code / f"{name}.py",
                trust_remote_code=True,
            )
            for name in others
        ]
    )
    assert len(results) == len(others) > 0
    assert_all_equal(results, expected)


@pytest.mark.slow  # what loads a file from the Hub loads a local one, which the fast tests do
@pytest.mark.parametrize("name", [ONE, *OTHERS])
def test_ways_through_the_hub(run, hub, models, own_models, files, expected, tmp_path, name):
    def contents(folder: Path) -> dict[str, bytes]:
        paths = [path for path in folder.rglob("*") if path.is_file()]
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}

    model = models[name]
    plain = Path(shutil.copytree(model, tmp_path / name, ignore=shutil.ignore_patterns("*.py")))
    hub.add_repo(f"someone/model-{name}", contents(model))
    hub.add_repo(f"someone/plain-{name}", contents(plain))
    hub.add_repo(f"someone/own-{name}", contents(own_models[name]))
    commit = hub.add_repo(f"someone/{name}", {"pipeline.py": files[name].encode()})
    trusted = {"trust_remote_code": True}
    pinned = {"custom_pipeline": f"someone/{name}", "custom_revision": commit.sha}
    results = run(
        [
            way("model's repository", name, f"someone/model-{name}", custom_pipeline=name, **trusted),
            way("code repository", name, model, **pinned, **trusted),
            way("code repository, Hub's model", name, f"someone/plain-{name}", **pinned, **trusted),
            way("mirror", name, f"someone/plain-{name}", custom_pipeline=name),
            way("mirror, local model", name, plain, custom_pipeline=name),
            way("model's own", name, f"someone/own-{name}", **trusted),
        ]
    )
    assert len(results) == 6
    assert_all_equal(results, expected)


def test_a_friend_edits_with_the_name_of_a_published_picture(
    run, models, code, expected, request_for, this_process
):
    this_process.setenv("HF_TOKEN", WRITE_TOKEN)
    mine = ["mapping", request_for["mappings"]["stylediffusion"], "--base-model", "someone/model"]
    assert main(["publish", *mine, "--to", "someone/apple", "--license", "cc-by-4.0"]) == 0
    loaded = {"custom_pipeline": code / "stylediffusion.py", "trust_remote_code": True}
    results = run(
        [way("it", "stylediffusion", models["stylediffusion"], **loaded)],
        mappings={"stylediffusion": "someone/apple"},
    )
    assert len(results) == 1
    assert_all_equal(results, expected)


@pytest.mark.slow
def test_a_file_refuses_a_model_of_another_family(run, models, code):
    trusted = {"trust_remote_code": True, "fails": True}
    pairs = [("diffedit", "diffedit_xl"), ("stylediffusion_xl", "stylediffusion")]
    results = run(
        [
            way("it", name, models[other], custom_pipeline=code / f"{name}.py", **trusted)
            for name, other in pairs
        ]
    )
    for (name, other), result in zip(pairs, results.values(), strict=True):
        assert f"which {PIPELINES[name].class_name} does not support" in str(result)
        assert f"use {PIPELINES[other].class_name} instead" in str(result)


def test_without_trust_nothing_of_a_repository_runs(run, hub, models, own_models, code, files):
    model = models["diffedit"]
    hub.add_repo("someone/untrusted", {"pipeline.py": files["diffedit"].encode()})
    refused = {"fails": True}
    results = run(
        [
            way("model's folder", "diffedit", model, custom_pipeline="diffedit", **refused),
            way("path of a file", "diffedit", model, custom_pipeline=code / "diffedit.py", **refused),
            way("folder", "diffedit", model, custom_pipeline=code / "repositories" / "diffedit", **refused),
            way("model's own", "diffedit", own_models["diffedit"], **refused),
            way("code repository", "diffedit", model, custom_pipeline="someone/untrusted", **refused),
        ]
    )
    assert len(results) == 5
    for label, result in results.items():
        assert "trust_remote_code=True" in str(result), label
