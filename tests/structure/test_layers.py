"""Imports point downwards."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lithops_mp

PACKAGE = Path(lithops_mp.__file__).parent
ROOT = PACKAGE.name

#: Low to high; a module may import from lower layers only.
LAYERS = [
    {"_version", "errors", "config", "alias", "arguments"},
    {"_store"},
    {"protocols", "reduction", "util", "dummy", "handle"},
    {"queueing", "pooling", "messages", "memory", "storing"},
    {"channel", "workplace", "details", "values"},
    {"containers", "functions", "listening"},
    {"synchronize", "connection", "popen_lithops"},
    {"queues", "nanomsg", "sharedctypes"},
    {"process"},
    {"crew", "serving", "referents"},
    {"pool"},
    {"managers"},
    {"context"},
    {"worker"},
    {""},  # the package itself
    {"cli"},
    {"__main__"},
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}

#: Upward, from inside a function, and why.
LATE = {
    ("connection", "nanomsg"): "pynng need not be there",
    ("functions", "worker"): "text of the function that runs on the far side",
    ("managers", "context"): "the default context, as in CPython's managers",
    ("popen_lithops", "context"): "the default context of the program, as in CPython's popen_fork",
    ("pool", "context"): "the default context, as in CPython's pool",
}

# An installed package has bench/ in it, which is a program beside it.
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent.name != "_bench")


def dotted(path: Path) -> str:
    """A module's name within the package; the package itself is ''."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


#: Full name -> name within the package.
KNOWN = {f"{ROOT}.{dotted(path)}".rstrip("."): dotted(path) for path in MODULES}


def top(name: str) -> str:
    return name.partition(".")[0]


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Absolute names a module imports, and whether at once (not in a function)."""
    tree = ast.parse(path.read_text())
    inner = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    here = [ROOT, *dotted(path).split(".")] if dotted(path) else [ROOT]
    package = here if path.name == "__init__.py" else here[:-1]
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        at_once = id(node) not in inner
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, at_once
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                name = f"{source}.{alias.name}"
                yield (name if name in KNOWN else source), at_once


def ours(path: Path) -> Iterator[tuple[str, bool]]:
    """Modules of the package that a module imports."""
    for name, at_once in imports(path):
        if name in KNOWN and KNOWN[name] != dotted(path):
            yield KNOWN[name], at_once


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_imports_point_downwards(path):
    me = top(dotted(path))
    assert me in RANK, f"{me} has no layer: give it one"
    for name, at_once in ours(path):
        other = top(name)
        late = not at_once and (me, other) in LATE
        if other == me:
            continue
        assert RANK[other] < RANK[me] or late, f"{me} imports {other}"


def test_the_store_has_no_cycle():
    """Nor has anything else, as far as imports at once go."""
    graph = {
        dotted(path): {name for name, at_once in ours(path) if at_once and name} for path in MODULES
    }
    for name in graph:
        graph[name] -= {"_store", ""}
    while graph:
        free = [name for name, needs in graph.items() if not needs & set(graph)]
        assert free, f"a cycle among {sorted(graph)}"
        for name in free:
            del graph[name]


def test_only_the_store_imports_redis():
    for path in MODULES:
        if top(dotted(path)) != "_store":
            assert not [n for n, _ in imports(path) if top(n) in ("redis", "hiredis")], path


def test_only_functions_imports_lithops_and_late():
    for path in MODULES:
        found = [at_once for name, at_once in imports(path) if top(name) == "lithops"]
        if dotted(path) != "functions":
            assert not found, path
        assert not any(found), f"{path} imports lithops at once"


def test_importing_the_package_is_cheap():
    """Neither redis nor lithops, until something is created or started."""
    code = (
        "import sys, lithops_mp; "
        "heavy = {'redis', 'lithops', 'cloudpickle', 'msgpack', 'yaml'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    assert done.stdout.strip() == "[]"
