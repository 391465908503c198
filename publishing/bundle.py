"""Put a class, with everything of this package that it needs, into one file that works without the package."""

from __future__ import annotations

import ast
import builtins
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from semantic_edit.publishing.imports import render_imports
from semantic_edit.publishing.sources import BundleError, Import, Module, Statement, read_module

LINE_LENGTH = 110
# with these expressions diffusers looks for imports in the text of custom code, including docstrings
SEEN_AS_IMPORT = re.compile(r"^\s*(?:import\s+(\S+)\s*$|from\s+(\S+)\s+import)")


def bundle(module: str, name: str, heading: str) -> str:
    """One file with `name` of a module and everything of this package that it uses.

    Statements keep their text, comments and docstrings; each module comes after those that it imports, and unused
    statements are left out. The same sources always give the same text.

    Args:
        module: The module's name, such as "semantic_edit.pipelines.diffedit".
        name: What it defines, such as "DiffEditPipeline".
        heading: The file's docstring.

    Raises:
        BundleError: If two modules use one name for different things, or something would not work in one file; says
            where.
    """
    gathered = Bundle()
    gathered.reach(module, name)
    return gathered.render(heading)


@dataclass
class Bundle:
    """What has been found to be needed so far.

    read: Reads a module by its name.
    modules: Those that were read, by name.
    order: The modules' names, each after those that it imports.
    kept: By module, the indices of the statements that are needed.
    external: The imports of other packages.
    """

    read: Callable[[str], Module] = read_module
    modules: dict[str, Module] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    kept: dict[str, set[int]] = field(default_factory=dict)
    external: set[Import] = field(default_factory=set)

    def reach(self, module: str, name: str) -> None:
        """Keep the statement that defines a name in a module, and everything that this statement needs.

        Raises:
            BundleError: If the module has no such name, or imports it in a way that does not work in one file.
        """
        source = self.module(module)
        for index, statement in enumerate(source.statements):
            if name in statement.names:
                self._keep(source, index, statement)
                return
        found = [(one, line) for one, line in source.imports if one.name == name]
        if not found:
            raise BundleError(f"{module} has no {name!r} to bundle.")
        for one, line in found:
            self._follow(source, one, line)

    def module(self, name: str, path: tuple[str, ...] = ()) -> Module:
        """A module, read only once; those that it imports come before it in `order`.

        Raises:
            BundleError: If modules import each other.
        """
        if name in path:
            raise BundleError(
                f"{' -> '.join([*path, name])}: modules that import each other cannot be put in order."
            )
        if name not in self.modules:
            read = self.read(name)
            for one, _ in read.imports:
                if one.is_internal:
                    self.module(one.module, (*path, name))
            self.modules[name] = read
            self.order.append(name)
        return self.modules[name]

    def _keep(self, source: Module, index: int, statement: Statement) -> None:
        kept = self.kept.setdefault(source.name, set())
        if index in kept:
            return
        kept.add(index)
        available = {name for other in source.statements for name in other.names}
        available |= {one.name for one, _ in source.imports}
        for name in sorted(statement.uses & available):
            self.reach(source.name, name)

    def _follow(self, source: Module, one: Import, line: int) -> None:
        if not one.is_internal:
            self.external.add(one)
        elif not one.member or one.alias not in ("", one.member):
            raise BundleError(
                f"{source.place(line)}: import names from {one.module} as they are; in one file there are "
                "neither modules nor second names for things."
            )
        else:
            self.reach(one.module, one.member)

    def render(self, heading: str) -> str:
        """The file's text.

        Raises:
            BundleError: If names clash, or text in it looks like an import to diffusers.
        """
        self._refuse_clashes()
        blocks = [f'"""{heading}"""\n\nfrom __future__ import annotations', render_imports(self.external)]
        sections = (
            self._section(self.modules[name], self.kept[name]) for name in self.order if name in self.kept
        )
        text = "\n\n".join(blocks) + "\n\n" + "\n\n".join("".join(section) for section in sections)
        self._refuse_seeming_imports(text)
        return text

    def _section(self, module: Module, kept: set[int]) -> Iterator[str]:
        """A module's kept statements, below its name and docstring."""
        yield f"# {f' {module.name} '.center(LINE_LENGTH - 2, '-')}\n"
        for line in module.docstring.splitlines():
            yield from (f"# {part}".rstrip() + "\n" for part in textwrap.wrap(line, LINE_LENGTH - 2) or [""])
        before: Statement | None = None
        for index in sorted(kept):
            statement = module.statements[index]
            blank = 1
            if statement.is_block or (before is not None and before.is_block):
                blank = 2
            elif before is not None and index - 1 in kept:
                blank = min(statement.blank, 1)
            yield "\n" * blank + statement.text + "\n"
            before = statement

    def _refuse_clashes(self) -> None:
        """Raise unless every name has a single meaning, and no builtin is redefined."""
        places: dict[str, tuple[object, str]] = {}
        for one in sorted(self.external, key=lambda one: (one.module, one.member, one.alias)):
            # `import a.b` and `import a.c` both bind a
            meaning = one if one.member or one.alias else one.name
            held, _ = places.setdefault(one.name, (meaning, "an import"))
            if held != meaning:
                raise BundleError(f"`{one.name}` is {one} in one module and {held} in another; rename one.")
        for name in self.order:
            for index in sorted(self.kept.get(name, ())):
                statement = self.modules[name].statements[index]
                for bound in statement.names:
                    place = self.modules[name].place(statement.line)
                    if bound in vars(builtins):
                        raise BundleError(
                            f"{place}: `{bound}` is a builtin that other modules may use; rename it."
                        )
                    if bound in places:
                        raise BundleError(
                            f"{place}: `{bound}` is also bound by {places[bound][1]}; rename one of the two."
                        )
                    places[bound] = (statement, place)

    def _refuse_seeming_imports(self, text: str) -> None:
        real = {
            line
            for node in ast.walk(ast.parse(text))
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
        }
        for number, line in enumerate(text.splitlines(), start=1):
            if SEEN_AS_IMPORT.match(line) and number not in real:
                raise BundleError(
                    f"The text {line.strip()!r} would make diffusers look for a package; move it to the middle of "
                    "a line."
                )
