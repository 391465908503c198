"""What `pip install` puts where."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
METADATA = "diffusers_semantic_edit-{version}.dist-info"
NOT_SOURCES = shutil.ignore_patterns(
    ".git", ".venv", ".*_cache", "build", "dist", "demo", "runs", "*.egg-info", "__pycache__"
)
SETUP_FIELDS = (
    "import json, setuptools; from distutils.core import run_setup; d = run_setup('setup.py', stop_after='init'); "
    "print(json.dumps([d.packages, d.package_dir, d.get_version()]))"
)


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    """A copy of the repository, because setuptools builds in place and reuses what an earlier build left there."""
    return shutil.copytree(ROOT, tmp_path_factory.mktemp("sources") / "tree", ignore=NOT_SOURCES)


@pytest.fixture(scope="module")
def wheel(sources, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        folder,
        ".",
        cwd=sources,
    )
    return next(folder.glob("*.whl"))


@pytest.fixture
def environment(tmp_path) -> Path:
    """An empty environment, without even pip."""
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "env")
    return tmp_path / "env"


def install(environment: Path, *what: str | Path, cwd: Path = ROOT) -> None:
    python = environment / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", *what, cwd=cwd)


def site_packages(environment: Path) -> set[str]:
    folder = next(environment.glob("lib/python*/site-packages"))
    return {name for name in os.listdir(folder) if name != "__pycache__"}


def version() -> str:
    from semantic_edit import __version__

    return __version__


def test_every_folder_of_modules_is_mapped():
    packages, package_dir, _ = json.loads(run(sys.executable, "-c", SETUP_FIELDS).splitlines()[-1])
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {
        "benchmarks",
        "training",
        "tests",
        "docs",
    }
    paths = [path.parent for room in rooms for path in (ROOT / room).rglob("__init__.py")]
    assert set(package_dir.values()) == {path.relative_to(ROOT).as_posix() for path in paths}
    assert set(packages) == set(package_dir)
    assert all(name.split(".")[0] == "semantic_edit" for name in packages)


def test_wheel_holds_the_package_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"semantic_edit", METADATA.format(version=version())}
    assert "semantic_edit/py.typed" in names
    assert "semantic_edit/editing/masking.py" in names
    assert "semantic_edit/still_life/weights/model_index.json" in names
    assert "semantic_edit/model_cards/pictures/diffedit.png" in names
    assert "semantic_edit/still_life/weights/unet/diffusion_pytorch_model.safetensors" in names


@pytest.mark.slow
def test_install_into_an_empty_environment(environment, sources):
    install(environment, ".", cwd=sources)  # with build isolation, as a stranger's pip does it
    assert site_packages(environment) == {"semantic_edit", METADATA.format(version=version())}
    assert (environment / "bin" / "semantic-edit").is_file()
    printed = run(
        environment / "bin" / "python",
        "-c",
        "import semantic_edit as s; print(s.__version__)",
        cwd=environment,
    )
    assert printed.strip() == version()


@pytest.mark.slow
def test_editable_install_finds_every_room(environment, sources):
    install(environment, "--editable", ".", cwd=sources)
    code = "import importlib.util as u; print(u.find_spec('semantic_edit.still_life').origin)"
    for cwd in (environment, sources):  # the checkout's own folder is on the path of whoever stands in it
        found = run(environment / "bin" / "python", "-c", code, cwd=cwd).strip()
        assert Path(found) == sources / "still_life" / "__init__.py"


@pytest.mark.slow
def test_sdist_holds_all_that_the_wheel_needs(sources, wheel, tmp_path):
    code = "import sys; from setuptools import build_meta as b; print(b.build_sdist(sys.argv[1]))"
    archive = tmp_path / run(sys.executable, "-c", code, tmp_path, cwd=sources).splitlines()[-1]
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path, archive)
    from_sdist = zipfile.ZipFile(next(tmp_path.glob("*.whl")))
    assert set(from_sdist.namelist()) == set(zipfile.ZipFile(wheel).namelist())
