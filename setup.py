"""Install the repository's folders as subpackages of `semantic_edit`.

The map is explicit so that no folder ever lands in site-packages under its own short name (`pipelines`, `editing`).
A new room needs one line in `ROOMS`, and `tests/test_packaging.py` fails until it has one.
"""

import re
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent
FACE = "semantic_edit"
ROOMS = (
    "attention_processors",
    "batch",
    "datasets",
    "denoisers",
    "disk",
    "editing",
    "evaluation",
    "evaluation/metrics",
    "mapping_networks",
    "model_cards",
    "pipelines",
    "publishing",
    "still_life",
    "web",
)
PACKAGES = {f"{FACE}.{room.replace('/', '.')}": room for room in ROOMS}

VERSION = re.search(r'^__version__ = "(.+)"$', (HERE / FACE / "__init__.py").read_text(), re.MULTILINE)
assert VERSION is not None, "semantic_edit/__init__.py must set __version__ on a line of its own"

setup(
    name="diffusers-semantic-edit",
    version=VERSION.group(1),
    description="Edit what a prompt names in a real picture, and nothing else: DiffEdit for Hugging Face diffusers",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The diffusers-semantic-edit authors",
    license="Apache-2.0",
    license_files=["LICENSE"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    keywords="diffusers stable-diffusion image-editing diffedit ddim-inversion",
    packages=[FACE, *PACKAGES],
    package_dir={FACE: FACE, **PACKAGES},
    package_data={
        FACE: ["py.typed"],
        f"{FACE}.model_cards": ["*.md", "pictures/*.png"],
        f"{FACE}.still_life": [
            "judge.safetensors",
            *(f"weights/**/*.{suffix}" for suffix in ("safetensors", "json", "txt")),
        ],
        f"{FACE}.web": ["*.css"],
    },
    python_requires=">=3.10",
    # Each lower bound is a version that the fast tests were run on. requirements/lock.txt holds what `make` installs.
    install_requires=[
        "accelerate>=1.0",
        "diffusers>=0.37,<1",
        "huggingface_hub>=0.34",
        "numpy>=1.26.4",
        "Pillow>=10.4",
        "safetensors>=0.4.5",
        "torch>=2.12.1",
        "transformers>=4.51,!=5.24.*",  # 5.24 refuses every peft that is published: it wants 0.22
    ],
    extras_require={
        "dev": [
            "hypothesis>=6.100",
            "matplotlib>=3.10",
            "mkdocs>=1.6",
            "mkdocstrings-python>=2.0",
            "mypy>=2.4",
            "peft>=0.17",
            "playwright>=1.49",  # drives an installed Chromium, and brings none
            "pymdown-extensions<12.2",  # the last mkdocstrings for Python 3.10 fails with later ones
            "pytest>=8.2",
            "pytest-xdist>=3.6.1",
            "ruff~=0.17.5",  # another minor version may format otherwise
            "setuptools>=77.0.3",
        ],
        # the page
        "web": ["gradio>=6.20,<7"],
        # tables in Parquet, and datasets that are streamed from the Hub or from a folder
        "data": ["datasets>=4.0", "pyarrow>=21.0"],
        # plots, and published networks to measure with; torchvision wants the torch that it was built for
        "evaluation": [
            "matplotlib>=3.10",
            "torch-fidelity>=0.4",
            "torchmetrics>=1.4.0.post0",
            "torchvision>=0.27.1",
        ],
    },
    entry_points={"console_scripts": ["semantic-edit = semantic_edit.cli:main"]},
    zip_safe=False,
)
