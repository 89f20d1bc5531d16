"""docs/delivery.md can't rot: what it promises is held by tests that exist, and that are expected to pass."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs" / "delivery.md"
TEXT = DOCUMENT.read_text()
_NAMED = re.compile(r"`(tests/test_\w+\.py)::(\w+)`")
_CLAUSE = re.compile(r"^- \*\*([A-Z]{2}-\d+)\*\* (.*?)(?=^- \*\*|^#|\Z)", re.MULTILINE | re.DOTALL)
CLAUSES = _CLAUSE.findall(TEXT)
SITUATIONS = [line for line in TEXT.splitlines() if re.match(r"\| [A-Z][a-z ]+ \d+ \|", line)]


@cache
def names_in(file: str) -> dict[str, bool]:
    """The tests of a file, and whether each is expected to fail. That of a state machine is made by assigning."""
    path = ROOT / file
    found: dict[str, bool] = {}
    for node in ast.parse(path.read_text()).body if path.exists() else ():
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            found[node.name] = any("xfail" in ast.unparse(decorator) for decorator in node.decorator_list)
        elif isinstance(node, ast.Assign):
            targets = [target.id for target in node.targets if isinstance(target, ast.Name)]
            found |= {name: False for name in targets if name.startswith("Test")}
    return found


def test_the_document_is_read_as_it_is_written() -> None:
    assert len(CLAUSES) == TEXT.count("\n- **")
    assert len({name for name, _ in CLAUSES}) == len(CLAUSES) > 40
    assert len(SITUATIONS) == 80
    assert len({line.split("|")[1] for line in SITUATIONS}) == 80
    assert len(_NAMED.findall(TEXT)) == TEXT.count("`tests/")


@pytest.mark.parametrize(("file", "name"), sorted(set(_NAMED.findall(TEXT))), ids=lambda part: part[-60:])
def test_a_named_test_exists(file: str, name: str) -> None:
    assert name in names_in(file)


def test_no_promise_rests_on_a_test_that_is_expected_to_fail() -> None:
    assert [name for file, name in _NAMED.findall(TEXT) if names_in(file).get(name)] == []


@pytest.mark.parametrize("clause", CLAUSES, ids=lambda clause: clause[0])
def test_a_clause_says_how_firm_it_is_and_is_held_by_a_test(clause: tuple[str, str]) -> None:
    _, text = clause
    assert re.search(r"\b(MUST|SHOULD)\b", text)
    assert _NAMED.search(text)


@pytest.mark.parametrize("line", SITUATIONS, ids=lambda line: line.split("|")[1].strip())
def test_a_situation_has_a_promise_that_is_held_by_a_test(line: str) -> None:
    _, _, what, promise, held, _ = (cell.strip() for cell in line.split("|"))
    assert what
    assert promise
    assert _NAMED.search(held)


def test_every_test_of_a_situation_is_named_in_the_document() -> None:
    """A scenario that is tested is promised."""
    named = {name for _, name in _NAMED.findall(TEXT)}
    files = sorted(path.relative_to(ROOT) for path in (ROOT / "tests").glob("test_logs_scenarios_*.py"))
    tests = [name for file in files for name, fails in names_in(str(file)).items() if not fails]
    assert len(tests) > 40
    assert [name for name in tests if name not in named] == []


def test_log_files_are_followed_without_file_system_events() -> None:
    """Nothing of agent/logs asks the kernel for events of files: looking is all there is."""
    files = sorted((ROOT / "agent" / "logs").glob("*.py"))
    assert len(files) > 10
    assert [file.name for file in files if re.search(r"watchdog|inotify|fanotify", file.read_text())] == []
