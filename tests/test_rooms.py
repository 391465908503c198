"""Imports run one way: face -> publishing, evaluation -> batch -> datasets -> pipelines -> denoisers -> the numerics.

The numerics are `mapping_networks`, `editing` and `attention_processors`. `still_life` imports no room of these, and
`disk` lies below all: how files are written and read. `evaluation` uses only what other rooms export, as users
would. The checker reads source text, so it needs no room to be importable.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "semantic_edit"
DISK = "disk"
BELOW = {"denoisers", "mapping_networks", "editing", "attention_processors"}
NOT_INSTALLED = {
    "benchmarks",
    "training",
}  # run from a checkout: whoever installs the package does not have them
# Room to the rooms that it may import; the face, semantic_edit/ itself, stands above all of them.
MAY_IMPORT: dict[str, set[str]] = {
    DISK: set(),
    "still_life": {DISK},
    "editing": {DISK},
    "attention_processors": set(),
    "mapping_networks": {DISK},
    "denoisers": {DISK, "editing", "attention_processors"},
    "pipelines": {DISK, *BELOW},
    "model_cards": set(),
    "datasets": {DISK, "editing", "pipelines", "still_life"},
    "batch": {DISK, "datasets", "pipelines", *BELOW},
    "evaluation": {DISK, "batch", "datasets", "pipelines", "still_life", *BELOW},
    "publishing": {DISK, "pipelines", "still_life", "model_cards", *BELOW},
    "web": {DISK, "pipelines", "still_life", *BELOW},
}
# Rooms that reach these of the others through what their `__init__` exports alone.
AS_USERS = {"evaluation"}
EXPORTING = {"pipelines", *BELOW}
NETWORKS = re.compile(r"(.*\.)?(unet|vae(\.(encode|decode|encoder|decoder))?|text_encoder(_2)?)")


def faults(room: str, source: str) -> Iterator[str]:
    """The forbidden imports of one module of `room`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield f"line {node.lineno}: relative import"
        for name in _imported_names(node):
            yield from _faults_of_name(room, name, node.lineno)


def _imported_names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and not node.level and node.module:
        # `from semantic_edit import editing` names a room too
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def _faults_of_name(room: str, name: str, line: int) -> Iterator[str]:
    top, *below = name.split(".")
    if top in MAY_IMPORT:
        yield f"line {line}: `{name}` is called {PACKAGE}.{name} once installed"
    if top in NOT_INSTALLED:
        yield f"line {line}: `{name}` is not installed with {PACKAGE}"
    if top != PACKAGE or room == PACKAGE:
        return
    target = below[0] if below else PACKAGE
    if target not in {room, *MAY_IMPORT[room]}:
        yield f"line {line}: {room} may not import {target if target in MAY_IMPORT else 'the face'} ({name})"
    elif room in AS_USERS and target in EXPORTING and not _is_exported(target, below[1:]):
        yield f"line {line}: {room} may take from {target} only what its __init__ exports ({name})"


def _is_exported(room: str, names: list[str]) -> bool:
    """Whether the names after a room's are in its `__all__`, or there are none."""
    tree = ast.parse((ROOT / room / "__init__.py").read_text())
    assigned = [node for node in tree.body if isinstance(node, ast.Assign)]
    (exported,) = (
        ast.literal_eval(node.value) for node in assigned if ast.unparse(node.targets[0]) == "__all__"
    )
    return not names or (len(names) == 1 and names[0] in exported)


def evaluated(source: str) -> set[str]:
    """The UNets, VAEs and text encoders that a module calls, by their names."""
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    return {name for name in (ast.unparse(call.func) for call in calls) if NETWORKS.fullmatch(name)}


def cycle(graph: Mapping[str, set[str]]) -> list[str]:
    """The names on a cycle of `graph`, or an empty list."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return path[path.index(name) :]
        if name in done:
            return []
        found = next((ring for child in sorted(graph[name]) if (ring := visit(child, [*path, name]))), [])
        done.add(name)
        return found

    return next((ring for name in sorted(graph) if (ring := visit(name, []))), [])


def module_graph() -> dict[str, set[str]]:
    """Every module of the package to the modules of the package that it imports when it runs."""
    sources = {name: path for room in rooms() for name, path in _modules(room)}
    graph: dict[str, set[str]] = {}
    for module, path in sources.items():
        names = {name for node in ast.walk(_at_runtime(path.read_text())) for name in _imported_names(node)}
        # `from room import module` needs the module, `from module import name` needs the module too
        modules = {name if name in sources else name.rpartition(".")[0] for name in names}
        graph[module] = (modules & sources.keys()) - {module}
    return graph


def _at_runtime(source: str) -> ast.Module:
    """The module without the code under `if TYPE_CHECKING`, because imports for annotations alone make no cycle."""

    class WithoutTypes(ast.NodeTransformer):
        def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
            is_for_types = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
            return node.orelse if is_for_types else self.generic_visit(node)

    return WithoutTypes().visit(ast.parse(source))


def _modules(room: str) -> Iterator[tuple[str, Path]]:
    package = PACKAGE if room == PACKAGE else f"{PACKAGE}.{room}"
    for path in sorted((ROOT / room).rglob("*.py")):
        parts = path.relative_to(ROOT / room).with_suffix("").parts
        yield ".".join([package, *(part for part in parts if part != "__init__")]), path


def rooms() -> list[str]:
    return [name for name in (PACKAGE, *MAY_IMPORT) if (ROOT / name).is_dir()]


@pytest.mark.parametrize("room", rooms())
def test_room_imports_only_what_lies_below(room):
    found = [
        f"{path.name}, {fault}" for _, path in _modules(room) for fault in faults(room, path.read_text())
    ]
    assert not found


@pytest.mark.parametrize("room", [room for room in rooms() if room != "denoisers"])
def test_only_denoisers_evaluate_a_models_networks(room):
    found = {name: evaluated(path.read_text()) for name, path in _modules(room)}
    assert not {name: calls for name, calls in found.items() if calls}


@pytest.mark.parametrize(
    ("source", "calls"),
    [
        ("pipe.vae.encode(pixels).mode()", {"pipe.vae.encode"}),
        ("vae.encoder(pixels)", {"vae.encoder"}),
        ("self.pipe.unet(latents)", {"self.pipe.unet"}),
        ("pipe.text_encoder_2(ids)", {"pipe.text_encoder_2"}),
        ("denoiser.encode(pixels); pipe.vae.parameters(); small_unet()", set()),
    ],
)
def test_checker_finds_evaluations(source, calls):
    assert evaluated(source) == calls


def test_no_two_modules_import_each_other():
    assert cycle(module_graph()) == []


def test_rooms_themselves_form_no_circle():
    assert cycle(MAY_IMPORT) == []


@pytest.mark.parametrize(
    ("room", "source", "fault"),
    [
        (
            "editing",
            "from semantic_edit.pipelines.diffedit import DiffEditPipeline",
            "may not import pipelines",
        ),
        ("editing", "import semantic_edit.evaluation", "may not import evaluation"),
        ("editing", "def late():\n    from semantic_edit import pipelines", "line 2: editing may not import"),
        ("still_life", "from semantic_edit.editing import masking", "may not import editing"),
        ("pipelines", "from semantic_edit import DiffEditPipeline", "may not import the face"),
        ("pipelines", "from semantic_edit.cli import main", "may not import the face"),
        ("pipelines", "from .diffedit import DiffEditPipeline", "relative import"),
        (
            "evaluation",
            "from pipelines.diffedit import DiffEditPipeline",
            "is called semantic_edit.pipelines",
        ),
        ("semantic_edit", "import editing.masking", "is called semantic_edit.editing"),
        (
            "evaluation",
            "from semantic_edit.pipelines.checks import levels_for",
            "may take from pipelines only what its __init__ exports",
        ),
        ("evaluation", "from semantic_edit.pipelines import checks", "(semantic_edit.pipelines.checks)"),
        ("evaluation", "import semantic_edit.editing.schedule", "may take from editing only"),
        ("still_life", "from training.loop import train", "`training.loop.train` is not installed"),
    ],
)
def test_checker_finds_a_forbidden_import(room, source, fault):
    assert any(fault in found for found in faults(room, source))


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("pipelines", "from semantic_edit.editing.masking import soft_mask\nimport torch"),
        ("evaluation", "from semantic_edit.still_life.scenes import sample_scene"),
        ("evaluation", "from semantic_edit.disk.writing import write_file"),
        ("evaluation", "from semantic_edit.pipelines import levels_for\nimport semantic_edit.editing"),
        ("evaluation", "from semantic_edit.evaluation.method import EditMethod"),
        ("semantic_edit", "from semantic_edit.pipelines.diffedit import DiffEditPipeline"),
        ("editing", "from semantic_edit.editing.schedule import Schedule"),
    ],
)
def test_checker_lets_a_permitted_import_pass(room, source):
    assert list(faults(room, source)) == []


def test_imports_for_types_alone_are_no_circle():
    kept = ast.unparse(_at_runtime("if TYPE_CHECKING:\n    import a\nelse:\n    import b\nimport c"))
    assert kept.split("\n") == ["import b", "import c"]


def test_cycle_names_the_circle():
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]
