"""Read a module of this package as the parts of a bundle: imports, and statements with their comments."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

PACKAGE = "semantic_edit"
DYNAMIC = {"__import__", "eval", "exec", "globals", "import_module"}


class BundleError(ValueError):
    """Something cannot be put into one file. The text says what, and where."""


@dataclass(frozen=True)
class Import:
    """One name that an import statement binds.

    module: The name after `import` or `from`.
    member: The name that is imported from it; "" for `import module`.
    alias: The name after `as`, or "".
    """

    module: str
    member: str = ""
    alias: str = ""

    @property
    def name(self) -> str:
        """The name that it binds."""
        return self.alias or self.member or self.module.partition(".")[0]

    @property
    def is_internal(self) -> bool:
        """Whether it is an import from this package."""
        return self.module.partition(".")[0] == PACKAGE


@dataclass(frozen=True)
class Statement:
    """A statement at the top level of a module.

    text: As written, with the comments above it and any docstring below it.
    names: The names that it binds.
    uses: All names that occur in it, including local ones.
    line: Its line number.
    blank: Number of empty lines before it.
    is_block: Whether it is a function or a class.
    """

    text: str
    names: tuple[str, ...]
    uses: frozenset[str]
    line: int
    blank: int
    is_block: bool


@dataclass
class Module:
    """The parts of a module, in the order of its text."""

    name: str
    path: Path
    docstring: str = ""
    imports: list[tuple[Import, int]] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)

    def place(self, line: int) -> str:
        """Where a line is, for an error."""
        return f"{self.name}, line {line}"


def read_module(name: str) -> Module:
    """Read a module of this package, without running any of it.

    Args:
        name: Its full name, such as "semantic_edit.pipelines.diffedit".

    Raises:
        BundleError: If there is no such module, or something in it would not work in one file.
    """
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise BundleError(f"There is no module {name!r} to bundle.")
    path = Path(spec.origin)
    return parse_module(name, path, path.read_text(encoding="utf-8"))


def parse_module(name: str, path: Path, source: str) -> Module:
    """The same from a module's text.

    Args:
        name: The module's full name.
        path: Its file.
        source: The file's text.

    Raises:
        BundleError: If something in it would not work in one file.
    """
    tree = ast.parse(source, filename=str(path))
    module = Module(name, path, ast.get_docstring(tree) or "")
    _refuse_dynamic(module, tree)
    lines = source.splitlines()
    read_up_to = 0
    for index, node in enumerate(tree.body):
        first, last = _first_line(node), node.end_lineno or node.lineno
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            module.imports += [(found, node.lineno) for found in _imported(module, node)]
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            if index:  # a string below a constant is its docstring; the module's own is read above
                _add_docstring(module, "\n".join(lines[read_up_to:last]))
        else:
            module.statements.append(_statement(module, node, lines, read_up_to, first, last))
        read_up_to = last
    return module


def _first_line(node: ast.stmt) -> int:
    decorators = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def _statement(
    module: Module, node: ast.stmt, lines: list[str], read_up_to: int, first: int, last: int
) -> Statement:
    above = lines[read_up_to : first - 1]
    blank = next((index for index, line in enumerate(above) if line.strip()), len(above))
    return Statement(
        text="\n".join(lines[read_up_to + blank : last]),
        names=tuple(_bound(module, node)),
        uses=frozenset(part.id for part in ast.walk(node) if isinstance(part, ast.Name)),
        line=first,
        blank=blank,
        is_block=isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)),
    )


def _add_docstring(module: Module, text: str) -> None:
    *before, statement = module.statements
    longer = Statement(**{**vars(statement), "text": f"{statement.text}\n{text.strip(chr(10))}"})
    module.statements = [*before, longer]


def _bound(module: Module, node: ast.stmt) -> Iterator[str]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield node.name
        return
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    for target in targets:
        for part in target.elts if isinstance(target, ast.Tuple) else [target]:
            if not isinstance(part, ast.Name):
                raise BundleError(
                    f"{module.place(node.lineno)}: a bundled module may contain only imports, functions, classes and "
                    f"constants, but this is {type(node).__name__}. Move it into a function."
                )
            yield part.id


def _imported(module: Module, node: ast.Import | ast.ImportFrom) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Import(alias.name, "", alias.asname or "")
    elif node.level or node.names[0].name == "*":
        kind = "relative" if node.level else "star"
        raise BundleError(
            f"{module.place(node.lineno)}: a {kind} import cannot be bundled; name what it imports."
        )
    elif node.module != "__future__":
        for alias in node.names:
            yield Import(node.module or "", alias.name, alias.asname or "")


def _refuse_dynamic(module: Module, tree: ast.Module) -> None:
    top = set(map(id, tree.body))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            # `model.eval()` is not `eval(text)`
            if called in DYNAMIC and (isinstance(node.func, ast.Name) or called == "import_module"):
                raise BundleError(
                    f"{module.place(node.lineno)}: `{called}` looks up names at run time, which may be missing in one "
                    "file. Use an import statement."
                )
        elif isinstance(node, ast.Name) and node.id == "__file__":
            raise BundleError(
                f"{module.place(node.lineno)}: `__file__` has no other files next to it once bundled."
            )
        elif isinstance(node, (ast.Import, ast.ImportFrom)) and id(node) not in top:
            for found in _imported(module, node):
                if found.is_internal:
                    raise BundleError(
                        f"{module.place(node.lineno)}: `{found.module}` is imported inside a function; import it at "
                        "the top, where the bundler can see it."
                    )
