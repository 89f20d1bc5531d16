"""Discovery: patterns mean what a shell makes of them, and an error is not absence."""

from __future__ import annotations

import fnmatch
import glob
import itertools
import os
import socket
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st
from logs_harness import examples, no_descriptors, unprivileged

from agent.logs.discover import COMPRESSED, Patterns


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path


def make(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def found(root: Path, *patterns: str, exclude: Iterable[str] = ()) -> list[str]:
    """Names below `root` that a scan finds, `R` standing for it in the patterns."""
    scan = Patterns([f"{root}/{pattern}" for pattern in patterns], [each.replace("R", str(root)) for each in exclude])
    result = scan.scan()
    assert not result.errors
    assert all(path.startswith(fixed) for path, fixed in result.found.items())
    return [os.path.relpath(path, root) for path in result.found]


# against a plain model

NAME = st.text("ab.-", min_size=1, max_size=4).filter(lambda name: name not in (".", ".."))
TREE = st.sets(st.lists(NAME, min_size=1, max_size=3).map("/".join), min_size=1, max_size=12)
PIECE = st.sampled_from(
    [
        "*",
        "?",
        "**",
        "[ab]",
        "[!a]",
        "[a-b]",
        "[.*]",
        "a",
        "b",
        ".",
        "-",
        "{a,b}",
        "{a,b*,}",
        "{a,{b,.}}",
        "[z-a]",
        "[]a]",
    ]
)
COMPONENT = st.one_of(
    st.just("**"), st.lists(PIECE.filter(lambda piece: piece != "**"), min_size=1, max_size=3).map("".join)
)
PATTERN = st.lists(COMPONENT, min_size=1, max_size=3).map("/".join).filter(lambda pattern: braces(pattern) != [])


def grow(root: Path, tree: set[str]) -> None:
    for name in sorted(tree):
        path = root / name
        if not any(parent.is_file() for parent in path.parents) and not path.exists():
            make(root, name)


def braces(pattern: str) -> list[str]:
    """The patterns that one of PATTERN stands for, read off a list; none where one walks by `.` or `..`."""
    choices = {"{a,b}": ["a", "b"], "{a,b*,}": ["a", "b*", ""], "{a,{b,.}}": ["a", "b", "."]}
    parts = [pattern]
    for braced, plain in choices.items():
        while any(braced in part for part in parts):
            parts = [part.replace(braced, each, 1) if braced in part else part for part in parts for each in plain]
    plain = ["/".join(filter(None, part.split("/"))) for part in parts if not part.endswith("/")]
    if any({".", ".."} & set(part.split("/")) for part in plain):
        return []
    return list(filter(None, dict.fromkeys(plain)))


def globbed(root: Path, pattern: str) -> set[str]:
    """The files that Python's glob finds."""
    plain = [f"{glob.escape(str(root))}/{each}" for each in braces(pattern)]
    paths = itertools.chain.from_iterable(glob.glob(each, recursive=True) for each in plain)
    return {os.path.relpath(path, root) for path in paths if os.path.isfile(path)}


def is_meant(name: str, pattern: str) -> bool:
    """Whether some plain pattern fits, component by component, a leading dot being no exception."""
    return any(_fits(name.split("/"), each.split("/")) for each in braces(pattern))


def _fits(parts: list[str], components: list[str]) -> bool:
    if not components or not parts:
        return not components and not parts
    if components == ["**"]:
        return True
    if components[0] == "**":
        return _fits(parts, components[1:]) or _fits(parts[1:], components)
    return fnmatch.fnmatchcase(parts[0], components[0]) and _fits(parts[1:], components[1:])


@given(TREE, PATTERN)
@examples(150)
def test_a_pattern_means_the_files_that_a_shell_makes_of_it(tree: set[str], pattern: str) -> None:
    with TemporaryDirectory() as folder:
        root = Path(folder)
        grow(root, tree)
        names = found(root, pattern)
        assert set(names) == globbed(root, pattern)
        assert len(names) == len(set(names))


@given(TREE, PATTERN)
@examples(100)
def test_what_is_excluded_by_its_path_or_its_name_is_left_out(tree: set[str], pattern: str) -> None:
    with TemporaryDirectory() as folder:
        root = Path(folder)
        grow(root, tree)
        everything = set(found(root, "**"))
        by_path = set(found(root, "**", exclude=[f"R/{pattern}"]))
        assert everything - by_path == {each for each in everything if is_meant(each, pattern)}
        name = pattern.rsplit("/", maxsplit=1)[-1]
        by_name = set(found(root, "**", exclude=[name]))
        plain = [each.replace("**", "*") for each in braces(name)]
        matching = {each for each in everything for one in plain if fnmatch.fnmatchcase(each.split("/")[-1], one)}
        assert everything - by_name == matching


# single promises


def test_star_stops_at_a_slash_and_at_a_leading_dot(root: Path) -> None:
    make(root, "a.log", ".hidden.log", "sub/b.log")
    assert found(root, "*.log") == ["a.log"]
    assert found(root, ".*.log") == [".hidden.log"]


def test_two_stars_are_any_depth_but_for_hidden_directories(root: Path) -> None:
    make(root, "a.log", "x/b.log", "x/y/z/c.log", ".git/d.log", "x/.e.log")
    assert sorted(found(root, "**/*.log")) == ["a.log", "x/b.log", "x/y/z/c.log"]
    assert sorted(found(root, "**")) == ["a.log", "x/b.log", "x/y/z/c.log"]


def test_a_name_without_magic_is_found_if_it_is_there(root: Path) -> None:
    make(root, "a.log")
    assert found(root, "a.log", "b.log", "no/such/directory/c.log", "a.log/d.log") == ["a.log"]


def test_a_file_that_several_patterns_mean_is_found_once(root: Path) -> None:
    make(root, "a.log", "b.log")
    assert found(root, "b.log", "*.log", "**/a.log") == ["b.log", "a.log"]


def test_compressed_files_are_never_meant(root: Path) -> None:
    make(root, "a.log", *(f"a.log.1{suffix}" for suffix in COMPRESSED))
    assert found(root, "*", "a.log.1.gz") == ["a.log"]


def test_names_with_special_characters_are_names(root: Path) -> None:
    make(root, "a\nb.log", "a'b.log", "ä b.log", "a.logx", "a+b.log")
    assert sorted(found(root, "*.log")) == ["a\nb.log", "a'b.log", "a+b.log", "ä b.log"]
    assert found(root, "a+b.log") == ["a+b.log"]
    assert found(root, "a?b.log") == ["a\nb.log", "a'b.log", "a+b.log"]


def test_excluding_a_question_mark_does_not_reach_over_a_slash(root: Path) -> None:
    make(root, "ab/c", "abxc")
    assert found(root, "**", exclude=["R/ab?c"]) == ["ab/c"]
    assert sorted(found(root, "**", exclude=["R/ab[!x]c"])) == ["ab/c", "abxc"]


def test_excludes_may_have_many_stars(root: Path) -> None:
    make(root, "aXbXc/dXeXf.log", "other/g.log")
    assert found(root, "**", exclude=["R/*a*b*c*/*d*e*f*.log"]) == ["other/g.log"]


def test_braces_nest_and_stay_literal_when_they_are_open(root: Path) -> None:
    make(root, "a1", "b2", "b3", "{c")
    assert found(root, "{a1,b{2,3}}") == ["a1", "b2", "b3"]
    assert found(root, "{c") == ["{c"]


def test_directories_pipes_sockets_and_devices_are_no_log_files(root: Path) -> None:
    make(root, "a.log", "dir.log/inside")
    os.mkfifo(root / "pipe.log")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "s.log"))
        (root / "null.log").symlink_to("/dev/null")
        assert found(root, "*.log") == ["a.log"]


def test_links_to_files_are_found_and_links_to_nowhere_are_not_trouble(root: Path) -> None:
    make(root, "real/a")
    (root / "link.log").symlink_to(root / "real/a")
    (root / "dangling.log").symlink_to(root / "nowhere")
    (root / "loop.log").symlink_to(root / "loop.log")
    (root / "way").symlink_to(root / "way")
    assert found(root, "*.log") == ["link.log"]
    assert found(root, "loop.log", "way/*.log", "*/a.log", "way/a.log", "**/loop.log") == []


def test_links_to_directories_are_followed_by_a_star_and_not_by_two(root: Path) -> None:
    make(root, "real/a.log")
    (root / "link").symlink_to(root / "real")
    assert found(root, "*/a.log") == ["link/a.log", "real/a.log"]
    assert found(root, "**/a.log") == ["real/a.log"]


def test_a_circle_of_directories_ends(root: Path) -> None:
    make(root, "d/a.log")
    (root / "d/up").symlink_to(root)
    assert found(root, "**/*.log") == ["d/a.log"]


def test_a_directory_that_may_not_be_read_is_an_error_and_not_empty() -> None:
    with unprivileged() as folder:
        make(folder, "open/a.log", "closed/b.log", "closed/deep/c.log")
        (folder / "link.log").symlink_to(folder / "closed/b.log")
        (folder / "closed").chmod(0)
        scan = Patterns(
            [f"{folder}/*/*.log", f"{folder}/**/c.log", f"{folder}/closed/b.log", f"{folder}/*.log"]
        ).scan()
        (folder / "closed").chmod(0o700)
    assert [os.path.relpath(path, folder) for path in scan.found] == ["open/a.log"]
    closed = {f"{folder}/closed", f"{folder}/closed/b.log", f"{folder}/closed/c.log"}
    assert set(scan.errors) == {*closed, f"{folder}/link.log"}
    assert all(isinstance(error, PermissionError) for error in scan.errors.values())


def test_no_descriptor_left_is_an_error_and_not_empty(root: Path) -> None:
    make(root, "a.log")
    patterns = Patterns([f"{root}/*.log"])
    with no_descriptors():
        scan = patterns.scan()
    assert not scan.found
    assert list(scan.errors) == [str(root)]
    assert list(patterns.scan().found) == [str(root / "a.log")]


def test_a_path_can_be_asked_about_without_looking_at_the_disk() -> None:
    patterns = Patterns(["/var/log/{a,b}*.log", "/srv/**/x"], ["*.tmp.log", "/srv/no/**"])
    meant = ["/var/log/a1.log", "/var/log/b.log", "/srv/x", "/srv/a/b/x"]
    other = [
        "/var/log/c.log",
        "/var/log/sub/a.log",
        "/var/log/a.tmp.log",
        "/srv/no/x",
        "/srv/no/more/x",
        "/var/log/a.log.1",
    ]
    assert [path for path in meant + other if patterns.means(path)] == meant
