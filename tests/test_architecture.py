"""The architecture holds: imports run one way, what is heavy comes late, and the project stands alone."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
AGENT = ROOT / "agent"
MODULES = sorted(AGENT.rglob("*.py"))
PACKAGES = sorted(path.parent for path in AGENT.rglob("__init__.py"))

_BASE = {"aws", "engine", "config"}
_JOBS = {"logs", "metrics", "uploads"}
_MAKERS = {"daemon", "assembly"}  # the daemon is made by its assembly, and the assembly makes its parts
MAY_IMPORT = {
    "cli": {*_MAKERS, *_BASE, "audit", "demo", "drain", "reload", "surroundings", "unserved"},
    "demo": {*_MAKERS, *_BASE, "drain", "standin"},
    "daemon": {*_MAKERS, *_BASE, *_JOBS, "drain", "reload"},
    "assembly": {*_MAKERS, *_BASE, *_JOBS, "drain", "reload", "surroundings"},
    "reload": {*_BASE, "drain", "surroundings", "unserved"},  # what it replaces, it knows by protocols
    "audit": {*_BASE, "surroundings", "uploads"},
    "surroundings": _BASE,
    "unserved": _BASE,
    "drain": _BASE,  # it knows the jobs by a protocol of the engine
    "logs": _BASE,
    "metrics": _BASE,
    "uploads": _BASE,
    "aws": {"engine"},
    "config": set(),
    "engine": set(),
    "standin": set(),
}
HEAVY = ["boto3", "botocore", "rich", "pydantic", "watchdog", "apscheduler", "psutil"]


def part_of(module: Path) -> str:
    """`logs` for agent/logs/tail.py, `daemon` for agent/daemon.py, nothing for agent/__init__.py."""
    name = module.relative_to(AGENT).parts[0].removesuffix(".py")
    return "" if name == "__init__" else name


def imports(module: Path) -> Iterator[str]:
    """Whole names of all modules that are imported anywhere in a file, also inside functions."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(name: str) -> str:
    """The part of the agent that a name lies in; nothing for agent itself and for all others."""
    first, _, rest = name.partition(".")
    part = rest.partition(".")[0]
    is_part = (AGENT / part).is_dir() or (AGENT / f"{part}.py").is_file()
    return part if first == "agent" and part and is_part else ""


def test_every_part_has_its_place() -> None:
    assert {part_of(module) for module in MODULES} - {""} == set(MAY_IMPORT)


@pytest.mark.parametrize("part", sorted(MAY_IMPORT))
def test_imports_run_one_way(part: str) -> None:
    allowed = {part, "", *MAY_IMPORT[part]}
    wrong = [
        f"{module.relative_to(ROOT)} imports {name}"
        for module in MODULES
        if part_of(module) == part
        for name in imports(module)
        if ours(name) not in allowed
    ]
    assert wrong == []


def test_the_order_of_the_parts_has_no_circle() -> None:
    """But for the daemon and its assembly."""
    done: set[str] = set()
    left = {part: needs - _MAKERS if part in _MAKERS else needs for part, needs in MAY_IMPORT.items()}
    while ready := {part for part, needs in left.items() if needs <= done}:
        done |= ready
        left = {part: needs for part, needs in left.items() if part not in ready}
    assert left == {}


def test_only_the_way_into_aws_knows_boto3() -> None:
    knowing = {
        part_of(module)
        for module in MODULES
        if {"boto3", "botocore", "s3transfer"} & {name.partition(".")[0] for name in imports(module)}
    }
    assert knowing == {"aws"}


def test_the_stand_in_needs_nothing_but_orjson() -> None:
    foreign = {
        name.partition(".")[0] for module in MODULES if part_of(module) == "standin" for name in imports(module)
    }
    assert foreign - sys.stdlib_module_names - {"agent"} == {"orjson"}


def test_the_command_line_starts_without_what_is_heavy() -> None:
    script = f"import sys, agent.cli; print([name for name in {HEAVY} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_every_heavy_library_is_one_that_is_installed() -> None:
    """Or the test above could never fail."""
    script = f"import importlib.util as u; print([name for name in {HEAVY} if u.find_spec(name) is None])"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_package_says_what_it_is_for(package: Path) -> None:
    assert ast.get_docstring(ast.parse((package / "__init__.py").read_text()))


def test_every_module_says_what_it_is_for() -> None:
    assert [str(path) for path in MODULES if not ast.get_docstring(ast.parse(path.read_text()))] == []


def test_every_folder_of_modules_is_a_package() -> None:
    assert {module.parent for module in MODULES} == set(PACKAGES)


# the project stands alone


def texts() -> Iterator[tuple[str, str]]:
    for folder in ("agent", "docs", "tests", "config", "systemd", "packaging", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield str(path.relative_to(ROOT)), path.read_text(errors="replace")


def mentions(pattern: str) -> list[tuple[str, str]]:
    return [(name, match.group()) for name, text in texts() for match in re.finditer(pattern, text)]


def test_no_file_names_a_place_of_the_machine_it_was_written_on() -> None:
    assert mentions(re.escape(str(ROOT)) + r"\b") == []


def test_every_document_that_is_mentioned_is_there() -> None:
    there = {path.name for path in ROOT.glob("*.md")} | {path.name for path in (ROOT / "docs").rglob("*.md")}
    assert [each for each in mentions(r"(?<![\w/.-])[\w-]+\.md\b") if each[1] not in there] == []


def test_nothing_is_left_to_be_done_or_told_by_a_number_elsewhere() -> None:
    assert mentions(r"\b(?:TOD[O]|FIXM[E]|XX[X])\b|\bissue #\d") == []
