"""The exact versions that `make` installs."""

from pathlib import Path

import pytest
import setuptools  # noqa: F401, brings `distutils`
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCK = [
    Requirement(line)
    for line in (ROOT / "requirements" / "lock.txt").read_text().splitlines()
    if line and not line.lstrip().startswith("#")
]
PLACES = [
    {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": platform}
    for python in ("3.10", "3.11", "3.12", "3.13")
    for platform in ("linux", "darwin")
]


@pytest.fixture(scope="module")
def asked() -> list[Requirement]:
    """The requirements in setup.py, for running the package and for working on it."""
    from distutils.core import run_setup

    fields = run_setup(str(ROOT / "setup.py"), stop_after="init")
    return [Requirement(line) for line in (*fields.install_requires, *fields.extras_require["dev"])]


def locked(place: dict[str, str]) -> dict[str, str]:
    """Versions by name."""
    here = [one for one in LOCK if one.marker is None or one.marker.evaluate(place)]
    versions = {canonicalize_name(one.name): str(one.specifier).removeprefix("==") for one in here}
    assert len(versions) == len(here)
    return versions


@pytest.mark.parametrize("place", PLACES, ids=lambda place: " ".join(place.values()))
def test_the_lock_holds_what_setup_asks_for(asked, place):
    versions = locked(place)
    names = {canonicalize_name(one.name): one for one in asked}
    assert names.keys() <= versions.keys(), "run `make lock`"
    assert not [name for name, one in names.items() if versions[name] not in one.specifier], "run `make lock`"


def test_every_version_is_exact_and_of_no_one_build():
    for one in LOCK:
        (only,) = one.specifier
        assert only.operator == "=="
        assert not {"*", "+"} & set(only.version)


def test_the_lock_brings_no_cuda():
    assert not [one.name for one in LOCK if one.name.startswith(("cuda", "nvidia", "triton"))]
