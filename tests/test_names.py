"""Rules that keep the package readable: short signatures, and no name used twice."""

import ast
import functools
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MOST_PARAMETERS = 6
# Methods that may take more. diffusers makes a model's config and a pipeline's components the parameters of `__init__`,
# and what a user of a pipeline calls has as many options as it needs.
OF_A_CONFIG = {"__init__"}
OF_A_PIPELINE = {"__init__", "__call__", "generate_mask", "invert", "learn_mapping"}
# Public functions whose keyword options are part of what a user reads.
WITH_OPTIONS = {"datasets/imagenet.py: imagenet_items"}
# modules of one kind are used through functions of one name: commands, readers of data, programs
INTERFACES = {"add_options", "run", "fits", "main"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


@functools.cache
def modules() -> dict[str, ast.Module]:
    outside = ("benchmarks", "training")  # programs that run from a checkout
    rooms = [path.parent for path in ROOT.glob("*/__init__.py") if path.parent.name not in outside]
    paths = [path for room in sorted(rooms) for path in sorted(room.rglob("*.py"))]
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in paths}


def base_names(trees: Iterable[ast.Module]) -> dict[str, set[str]]:
    """Every class with the names of its bases."""
    return {
        node.name: {ast.unparse(base).rpartition(".")[2] for base in node.bases}
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }


def descendants(bases: dict[str, set[str]], host: str) -> set[str]:
    found = {host}
    while more := {name for name, own in bases.items() if own & found} - found:
        found |= more
    return found


def functions(node: ast.AST, inside: str = "") -> Iterator[tuple[str, str, Function]]:
    """Every function with its class ("" if none) and its full name, such as "Trajectory.save"."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield from functions(child, child.name)
        elif isinstance(child, Function):
            yield inside, f"{inside}.{child.name}".removeprefix("."), child
            yield from functions(child)
        else:
            yield from functions(child, inside)


def parameters(function: Function, is_method: bool) -> int:
    """How many values a call hands over; a method's first parameter is not one of them."""
    given = function.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    is_static = any(ast.unparse(one) == "staticmethod" for one in function.decorator_list)
    own = 1 if is_method and not is_static else 0
    return len(named) - own + (given.vararg is not None) + (given.kwarg is not None)


def too_long(sources: dict[str, ast.Module]) -> set[str]:
    """The functions with too many parameters, as "room/module.py: name"."""
    bases = base_names(sources.values())
    configs, pipelines = (descendants(bases, host) for host in ("ConfigMixin", "DiffusionPipeline"))
    pipelines |= {base for name in pipelines for base in bases.get(name, ())}  # what they mix in
    found = set()
    for path, tree in sources.items():
        for owner, name, function in functions(tree):
            is_free = owner and (
                (owner in configs and function.name in OF_A_CONFIG)
                or (owner in pipelines and function.name in OF_A_PIPELINE)
                or (owner.endswith("AttnProcessor") and function.name == "__call__")
            )
            if not is_free and parameters(function, bool(owner)) > MOST_PARAMETERS:
                found.add(f"{path}: {name}")
    return found


def shared_names(sources: dict[str, ast.Module]) -> set[str]:
    """The names of top-level classes, and of public functions, that more than one module defines."""
    places: dict[str, set[str]] = defaultdict(set)
    for path, tree in sources.items():
        for node in tree.body:
            is_public = isinstance(node, Function) and not node.name.startswith("_")
            if isinstance(node, ast.ClassDef) or (is_public and node.name not in INTERFACES):
                places[node.name].add(path)
    return {name for name, paths in places.items() if len(paths) > 1}


def test_no_function_takes_too_many_parameters():
    assert too_long(modules()) == WITH_OPTIONS


def test_no_two_things_share_a_name():
    assert shared_names(modules()) == set()


SEVEN = "a, b, c, d, e, f, g"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        (f"def f({SEVEN}): ...", {"a.py: f"}),
        ("def f(a, /, b, c, *d, e, **f): ...", set()),
        ("def f(a, /, b, c, *d, e, f, **g): ...", {"a.py: f"}),
        (f"async def _f({SEVEN}): ...", {"a.py: _f"}),
        ("class A:\n    def f(self, a, b, c, d, e, f): ...", set()),
        (f"class A:\n    def f(self, {SEVEN}): ...", {"a.py: A.f"}),
        (f"class A:\n    @staticmethod\n    def f({SEVEN}): ...", {"a.py: A.f"}),
        (f"def f():\n    def g({SEVEN}): ...", {"a.py: g"}),
        (
            f"class A(B): ...\nclass B(x.ConfigMixin):\n    def __init__(self, {SEVEN}): ...",
            set(),
        ),
        (f"class A(ConfigMixin):\n    def f(self, {SEVEN}): ...", {"a.py: A.f"}),
        (f"class A:\n    def __init__(self, {SEVEN}): ...", {"a.py: A.__init__"}),
        (f"class OurAttnProcessor:\n    def __call__(self, {SEVEN}): ...", set()),
        (f"class P(M, DiffusionPipeline):\n    def invert(self, {SEVEN}): ...", set()),
        (
            f"class P(M, DiffusionPipeline): ...\nclass M:\n    def __call__(self, {SEVEN}): ...",
            set(),
        ),
        (
            f"class P(M, DiffusionPipeline): ...\nclass M:\n    def f(self, {SEVEN}): ...",
            {"a.py: M.f"},
        ),
        (f"class P:\n    def invert(self, {SEVEN}): ...", {"a.py: P.invert"}),
        (f"def invert({SEVEN}): ...", {"a.py: invert"}),
    ],
)
def test_checker_counts_parameters(source, found):
    assert too_long({"a.py": ast.parse(source)}) == found


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ("class A: ...", "class A: ...", {"A"}),
        ("class _A: ...", "class _A: ...", {"_A"}),
        ("def f(): ...", "class f: ...", {"f"}),
        ("def _f(): ...", "def _f(): ...", set()),
        ("def run(): ...", "def run(): ...", set()),
        ("class A:\n    def f(self): ...", "class B:\n    def f(self): ...", set()),
    ],
)
def test_checker_finds_a_shared_name(one, other, shared):
    assert shared_names({"a.py": ast.parse(one), "b.py": ast.parse(other)}) == shared
