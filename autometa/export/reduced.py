"""Of a script or notebook cell, the statements that one class in it needs."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator

from autometa.errors import BundleError

DECORATORS = ("register_learner", "register_backbone")
KNOWN = {*vars(builtins), "__name__", "__file__"}


def reduced(text: str, name: str) -> str:
    """The class with what it names, in the order of the text, without its registration.

    Raises:
        BundleError: It names something that the text doesn't define.
    """
    tree = ast.parse(text)
    homes = {bound: each for each in tree.body for bound in _bound(each)}
    if not isinstance(homes.get(name), ast.ClassDef):
        raise BundleError(f"the source of the learner {name} can't be found: define it in a file")
    needed, waiting = set[ast.stmt](), [name]
    while waiting:
        statement = homes[waiting.pop()]
        if statement in needed:
            continue
        needed.add(statement)
        used = _used(statement)
        if missing := sorted(used - set(homes) - KNOWN - _inner(statement)):
            raise BundleError(
                f"the learner {name} uses {missing[0]!r}, which isn't defined beside it: "
                "put all that it needs into one file or cell"
            )
        waiting += used & set(homes)
    always = [each for each in tree.body if _is_future(each)]
    lines = {line for each in [*always, *needed] for line in _lines(each)}
    source = text.splitlines()
    return "\n".join(_spaced([source[line - 1] for line in sorted(lines)])) + "\n"


def _bound(statement: ast.stmt) -> set[str]:
    """The names of a module that a statement gives a value."""
    if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return {statement.name}
    return _inner(statement)


def _inner(statement: ast.AST) -> set[str]:
    """All names that are bound in a statement, at any depth."""
    found = set[str]()
    for node in ast.walk(statement):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                found.add(name)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)):
                found.add(name)
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                found.add(name)
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                found |= {(a.asname or a.name).partition(".")[0] for a in names}
    return found


def _used(statement: ast.stmt) -> set[str]:
    """Names that are read in a statement, at any depth, but for its registration."""
    registration = {id(node) for each in _dropped(statement) for node in ast.walk(each)}
    return {
        node.id
        for node in ast.walk(statement)
        if isinstance(node, ast.Name)
        and isinstance(node.ctx, ast.Load)
        and id(node) not in registration
    }


def _dropped(statement: ast.stmt) -> Iterator[ast.expr]:
    """The decorators that register a class."""
    for decorator in getattr(statement, "decorator_list", ()):
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        if getattr(called, "attr", getattr(called, "id", "")) in DECORATORS:
            yield decorator


def _lines(statement: ast.stmt) -> Iterator[int]:
    dropped = [range(each.lineno, (each.end_lineno or 0) + 1) for each in _dropped(statement)]
    decorators = getattr(statement, "decorator_list", [])
    first = min([statement.lineno, *(each.lineno for each in decorators)])
    for line in range(first, (statement.end_lineno or first) + 1):
        if not any(line in each for each in dropped):
            yield line


def _is_future(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.ImportFrom) and statement.module == "__future__"


def _spaced(lines: list[str]) -> Iterator[str]:
    """Two empty lines before what begins a class or a function, and after one."""
    nested = decorated = False
    for line in lines:
        begins = line.startswith(("class ", "def ", "async def ", "@"))
        if (begins and not decorated) or (nested and line[:1].strip() and not begins):
            yield from ("", "")
        nested = bool(line) and (begins or line[:1] in " )")
        decorated = line.startswith("@")
        yield line
