"""Which versions of diffusers the pipelines work with."""

from __future__ import annotations

import warnings

LOWEST = (0, 37)  # before it, diffusers cannot load a pipeline whose annotations are strings
HIGHEST_TESTED = (0, 42)
TOO_NEW = (1, 0)


def check_diffusers(version: str) -> None:
    """Raise if the pipelines cannot work with a version, and warn if they were not tested with it.

    Raises:
        ImportError: Naming the version, the supported range and what to install.
    """
    major, minor = (int(part) for part in version.split(".")[:2])
    if not LOWEST <= (major, minor) < TOO_NEW:
        raise ImportError(
            f"This pipeline works with diffusers {supported_range()}, and diffusers {version} is installed. Install "
            f'one of these: pip install "diffusers>={_dotted(LOWEST)},<{_dotted(TOO_NEW)}".'
        )
    if (major, minor) > HIGHEST_TESTED:
        warnings.warn(
            f"diffusers {version} is newer than {_dotted(HIGHEST_TESTED)}, the newest that this pipeline was tested "
            "with. If something fails, look for a newer version of the pipeline.",
            stacklevel=2,
        )


def supported_range() -> str:
    """The supported range in words."""
    return (
        f"from {_dotted(LOWEST)} to below {_dotted(TOO_NEW)}, tested from {_dotted(LOWEST)} to "
        f"{_dotted(HIGHEST_TESTED)},"
    )


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
