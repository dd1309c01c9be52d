"""The house itself: floors, sizes, words. A line that breaks a rule is printed with its place."""

from __future__ import annotations

import ast
import statistics
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "orrouter"
SOURCES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))

FLOORS = {
    "core": 1,
    "catalog": 2, "ledger": 2, "observe": 2, "wire": 2,
    "middleware": 3, "transport": 3,
    "policy": 4, "testkit": 4,
    "accounts": 5, "asking": 5, "content": 5, "keeping": 5, "lookups": 5, "readiness": 5, "router": 5,
    "adapters": 6, "gateway": 6, "sync": 6,
    "cli": 7, "__main__": 8,
}  # fmt: skip
"""The floor of each part: an import may only go down."""

NEIGHBOURS = {
    ("accounts", "router"),
    ("asking", "accounts"),
    ("keeping", "router"),
    ("lookups", "router"),
    ("asking", "router"),
    ("readiness", "router"),
    ("sync", "adapters"),
}
"""Parts of one floor that may be imported: (what is imported, by whom)."""

DRIVERS = {"aiosqlite", "redis", "asyncpg", "sqlite3"}
SHARED_IN_MIDDLEWARE = {"base", "preferences", "fitness", "affordable", "charge", "own"}
"""Modules of `middleware` that are no layer: layers may import these and no other layer."""

MAX_FUNCTION, MAX_PARAMETERS, MAX_CLASS, MAX_FILE, MAX_TEST = 60, 8, 250, 400, 60
MAX_BRANCHES, MAX_NESTING = 12, 4


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def place(path: Path, node: ast.AST) -> str:
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"


def part(path: Path) -> str:
    inside = path.relative_to(PACKAGE)
    return inside.parts[0].removesuffix(".py")


def imports(path: Path, *, typing_too: bool = False) -> Iterator[tuple[ast.stmt, str]]:
    """Every module that a file imports from the package or from outside, also inside functions."""
    skipped: set[ast.stmt] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) and not typing_too:
            skipped.update(child for child in ast.walk(node) if isinstance(child, ast.stmt))
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node, node.module
            if node.module == "orrouter":
                yield from ((node, f"orrouter.{alias.name}") for alias in node.names)


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def length(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> int:
    """Lines of a definition without its docstring."""
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    first = node.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    arguments = node.args
    names = [one.arg for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


BRANCHING = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.Assert, ast.comprehension)


def own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function without those of functions inside it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            yield child
            yield from own_nodes(child)


def branches(node: ast.AST) -> int:
    count = 1
    for child in own_nodes(node):
        count += isinstance(child, BRANCHING)
        if isinstance(child, ast.BoolOp):
            count += len(child.values) - 1
    return count


def nesting(node: ast.AST) -> int:
    """How deep blocks stand in blocks; an `elif` is no deeper than its `if`."""
    deepest = 0
    for name in ("body", "orelse", "finalbody", "handlers"):
        for child in getattr(node, name, []):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            inside = nesting(child)
            block = isinstance(child, ast.If | ast.For | ast.AsyncFor | ast.While | ast.With | ast.AsyncWith | ast.Try)
            chained = name == "orelse" and isinstance(node, ast.If) and isinstance(child, ast.If)
            deepest = max(deepest, inside + (block and not chained))
    return deepest


def test_an_import_only_goes_down():
    """No file imports from a floor above its own, or from another part of its floor."""
    wrong = []
    for path in SOURCES:
        mine = part(path)
        if mine == "__init__":
            continue
        for node, module in imports(path):
            if not module.startswith("orrouter."):
                continue
            theirs = module.split(".")[1]
            if theirs == mine or theirs not in FLOORS or (theirs, mine) in NEIGHBOURS:
                continue
            if FLOORS[theirs] >= FLOORS[mine]:
                wrong.append(f"{place(path, node)} {mine} (floor {FLOORS[mine]}) imports {module}")
    assert wrong == []


def test_every_part_has_a_floor():
    """A new part of the package says where it stands."""
    assert set() == {part(path) for path in SOURCES} - set(FLOORS) - {"__init__"}


def test_the_pure_floors_do_no_io():
    """Core (but clock, reply, pipeline), wire and catalog/model import no event loop, socket, file system or clock."""
    free = {"core/clock.py", "core/reply.py", "core/pipeline.py"}
    barred = {"asyncio", "aiohttp", "socket", "time", "yaml", "sqlite3", "random", "threading", "ssl"}
    wrong = []
    for path in SOURCES:
        inside = path.relative_to(PACKAGE).as_posix()
        if inside in free or not inside.startswith(
            ("core/", "wire/", "catalog/model", "catalog/price", "catalog/rates")
        ):
            continue
        wrong += [f"{place(path, node)} {module}" for node, module in imports(path) if module.split(".")[0] in barred]
    assert wrong == []


def test_a_layer_imports_no_other_layer():
    """A file of middleware imports base, preferences, fitness and the words, never another layer, transport or policy."""
    wrong = []
    for path in sorted((PACKAGE / "middleware").glob("*.py")):
        for node, module in imports(path):
            words = module.split(".")
            if words[:2] == ["orrouter", "middleware"] and len(words) > 2 and words[2] not in SHARED_IN_MIDDLEWARE:
                wrong.append(f"{place(path, node)} imports {module}")
            if words[0] == "orrouter" and len(words) > 1 and words[1] in ("observe", "transport"):
                wrong.append(f"{place(path, node)} imports {module}")
            if words[:2] == ["orrouter", "ledger"] and words[2] not in ("base", "open", "windows"):
                wrong.append(f"{place(path, node)} imports {module}")
    assert wrong == []


def test_aiohttp_stays_in_the_transport():
    """Only the transport, and the server of the testkit, know aiohttp."""
    wrong = [
        f"{place(path, node)} imports {module}"
        for path in SOURCES
        if part(path) not in ("transport", "testkit", "gateway", "cli")
        for node, module in imports(path)
        if module.split(".")[0] == "aiohttp"
    ]
    assert wrong == []


def test_the_library_never_imports_what_stands_above_it():
    """Testkit, gateway, adapters and cli are used by the user and the cli alone."""
    above = {"testkit", "gateway", "adapters", "cli"}
    wrong = []
    for path in SOURCES:
        mine = part(path)
        if mine in above or mine in ("__main__",):
            continue
        wrong += [
            f"{place(path, node)} imports {module}"
            for node, module in imports(path)
            if module.startswith("orrouter.") and module.split(".")[1] in above
        ]
    assert wrong == []


def test_functions_are_small():
    """No function is over 60 lines, 8 parameters, 12 branches or 4 levels; the median is at most 8 lines."""
    wrong, sizes = [], []
    for path in SOURCES:
        for node in functions(path):
            lines = length(node)
            sizes.append(lines)
            measured = {
                f"{lines} lines": lines > MAX_FUNCTION,
                f"{parameters(node)} parameters": parameters(node) > MAX_PARAMETERS,
                f"{branches(node)} branches": branches(node) > MAX_BRANCHES,
                f"{nesting(node)} levels": nesting(node) > MAX_NESTING,
            }
            wrong += [f"{place(path, node)} {node.name}: {what}" for what, over in measured.items() if over]
    assert wrong == []
    assert statistics.median(sizes) <= 8
    assert statistics.quantiles(sizes, n=10)[-1] <= 25


def test_classes_and_files_are_small():
    """No class is over 250 lines, no file over 400."""
    wrong = []
    for path in (*SOURCES, *TESTS):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > MAX_FILE and path not in TESTS:
            wrong.append(f"{path.relative_to(ROOT)}: {lines} lines")
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef) and length(node) > MAX_CLASS:
                wrong.append(f"{place(path, node)} class {node.name}: {length(node)} lines")
    assert wrong == []


def test_every_module_says_what_it_is_and_what_must_not_live_here():
    """A module opens with a docstring; one with code in it states its law."""
    wrong = []
    for path in SOURCES:
        text = ast.get_docstring(tree(path))
        if not text:
            wrong.append(f"{path.relative_to(ROOT)} has no docstring")
        elif len(tree(path).body) > 3 and "Law:" not in text and path.name not in ("__init__.py", "__main__.py"):
            wrong.append(f"{path.relative_to(ROOT)} states no law")
    assert wrong == []


def test_every_test_has_its_sentence():
    """Each test says in one docstring which behaviour it holds, and stays short."""
    wrong = []
    for path in TESTS:
        for node in functions(path):
            if not node.name.startswith("test"):
                continue
            if not ast.get_docstring(node):
                wrong.append(f"{place(path, node)} {node.name} has no sentence")
            if length(node) > MAX_TEST:
                wrong.append(f"{place(path, node)} {node.name}: {length(node)} lines")
    assert wrong == []


def test_no_test_patches_sleeps_or_times():
    """No mock.patch, no monkeypatch.setattr, no time.sleep in a test: what one would patch is handed in."""
    wrong = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(tree(path)):
            text = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
            if text in ("mock.patch", "monkeypatch.setattr", "time.sleep", "unittest.mock"):
                wrong.append(f"{place(path, node)} {text}")
    assert wrong == []


def test_an_ignored_rule_has_its_reason():
    """Every `type: ignore` and `noqa` names its rule and says why."""
    wrong = []
    for path in SOURCES:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            for mark in ("# type: ignore", "# noqa", "# pyright: ignore"):
                if mark not in line:
                    continue
                rest = line.split(mark, 1)[1]
                if not rest.startswith(("[", ":")) or "  # " not in rest:
                    wrong.append(f"{path.relative_to(ROOT)}:{number} {line.strip()}")
    assert wrong == []


def test_nothing_on_the_road_is_read_at_import():
    """No module reads the environment, a file, a clock or a random number when it is imported."""
    barred = ("os.environ", "os.getenv", "open", "time.time", "time.monotonic", "random.random", "os.urandom")
    wrong = []
    for path in SOURCES:
        for statement in tree(path).body:
            if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.If):
                continue
            for node in ast.walk(statement):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in barred:
                    wrong.append(f"{place(path, node)} {ast.unparse(node)}")
    assert wrong == []


def test_the_top_level_holds_what_it_should():
    """Nothing stands at the top but the package, its tests, benchmarks, config and the three files."""
    allowed = {"pyproject.toml", "README.md", "LICENSE", "orrouter", "tests", "benchmarks", "config"}
    found = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    built = {name for name in found if name.endswith(".egg-info") or name in ("build", "dist", "__pycache__")}
    assert set() == found - allowed - built


def test_the_runtime_dependencies_are_six():
    """Nothing is needed at run time but the six packages."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {dependency.split(">")[0].strip() for dependency in project["dependencies"]}
    assert {"aiohttp", "orjson", "pydantic", "PyYAML", "structlog", "tenacity"} == names


@pytest.mark.parametrize("driver", sorted(DRIVERS))
def test_a_driver_is_imported_in_one_file_inside_a_function(driver):
    """A database driver is known to one file at most, and not at import."""
    found = [
        (path, node)
        for path in SOURCES
        if part(path) != "cli"
        for node, module in imports(path)
        if module.split(".")[0] == driver
    ]
    assert len({path for path, _ in found}) <= 1
    assert all(node not in tree(path).body for path, node in found)
