"""Opening a user's file: what an enemy has put in its place is not read, not even touched."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import as_user

from agent.engine.files import (
    INSIDE_LINKS,
    NO_LINKS,
    OWNED_LINKS,
    FileRefused,
    LinkRefused,
    Links,
    ManyLinks,
    NotRegular,
    TooDeep,
    may_read_everything,
    open_regular,
)

libc = ctypes.CDLL(None, use_errno=True)
APP, ENEMY, AGENT = 12345, 23456, 34567  # users
POLICIES = pytest.mark.parametrize("links", [NO_LINKS, OWNED_LINKS, INSIDE_LINKS], ids=["none", "owned", "inside"])


@pytest.fixture(autouse=True)
def no_descriptor_is_left_open() -> Iterator[None]:
    before = sorted(os.listdir("/proc/self/fd"))
    yield
    assert sorted(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    (folder / "d").mkdir(parents=True)
    (folder / "d" / "app.log").write_text("content")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("SECRET")
    return folder


def read(root: Path | str, relative: str, links: Links = NO_LINKS, *, privileged: bool | None = None) -> str:
    descriptor = open_regular(str(root), relative, links, privileged=privileged)
    with open(descriptor) as file:
        return file.read()


def only_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files to other users")


# what is opened


@POLICIES
@pytest.mark.parametrize("relative", ["d/app.log", "./d//app.log", "d/./app.log"])
def test_a_regular_file_is_opened(root: Path, relative: str, links: Links) -> None:
    assert read(root, relative, links) == "content"


def test_the_descriptor_is_read_only_blocking_and_closed_in_children(root: Path) -> None:
    descriptor = open_regular(str(root), "d/app.log")
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    assert flags & os.O_ACCMODE == os.O_RDONLY
    assert not flags & os.O_NONBLOCK
    assert not os.get_inheritable(descriptor)
    os.close(descriptor)


def test_links_in_the_root_itself_are_the_administrators(root: Path, tmp_path: Path) -> None:
    (tmp_path / "configured").symlink_to(root)
    assert read(tmp_path / "configured", "d/app.log") == "content"


def test_a_name_that_is_no_text_is_opened(root: Path) -> None:
    name = os.fsdecode(b"d/\xff\xfe.log")
    (root / name).write_text("content")
    assert read(root, name) == "content"


@pytest.mark.parametrize("relative", ["d/missing", "missing/app.log"])
def test_a_file_that_is_not_there_is_missing_by_its_whole_name(root: Path, relative: str) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        read(root, relative)
    assert caught.value.filename == str(root / relative)


def test_a_file_in_the_place_of_a_directory_is_said_to_be_one(root: Path) -> None:
    with pytest.raises(NotADirectoryError) as caught:
        read(root, "d/app.log/more")
    assert caught.value.filename == str(root / "d/app.log/more")


def test_a_file_renamed_while_it_is_open_is_still_the_same(root: Path) -> None:
    descriptor = open_regular(str(root), "d/app.log")
    os.rename(root / "d" / "app.log", root / "d" / "app.log.1")
    with open(descriptor) as file:
        assert file.read() == "content"


# names that lead out


@POLICIES
@pytest.mark.parametrize("relative", ["../outside/secret", "d/../../outside/secret", "d/..", "/etc/passwd", "//etc"])
def test_a_name_that_is_not_below_its_root_is_refused(root: Path, relative: str, links: Links) -> None:
    with pytest.raises(LinkRefused, match="not below its root"):
        read(root, relative, links)


# links where none are followed


def test_a_link_in_the_place_of_the_file_is_refused(root: Path) -> None:
    (root / "d" / "link").symlink_to("app.log")
    with pytest.raises(LinkRefused, match="not followed here") as caught:
        read(root, "d/link")
    assert caught.value.filename == str(root / "d" / "link")
    assert caught.value.errno == errno.ELOOP


def test_a_link_in_the_place_of_a_directory_is_refused(root: Path, tmp_path: Path) -> None:
    """O_NOFOLLOW alone would not see it."""
    (root / "linked").symlink_to(tmp_path / "outside")
    with pytest.raises(LinkRefused):
        read(root, "linked/secret")


def test_a_link_that_leads_nowhere_is_a_link_all_the_same(root: Path) -> None:
    (root / "link").symlink_to("missing")
    with pytest.raises(LinkRefused):
        read(root, "link")


# links owned by those who own their targets


@pytest.fixture
def owners(root: Path) -> Path:
    """A log of the application's and a secret of root's, in directories of their own."""
    only_root()
    for user, name in ((APP, "app"), (ENEMY, "enemy")):
        (root / name).mkdir()
        os.chown(root / name, user, user)
    (root / "app" / "app.log").write_text("content")
    os.chown(root / "app" / "app.log", APP, APP)
    (root / "secret").write_text("SECRET")
    return root


def link(place: Path, target: str | Path, owner: int) -> None:
    place.symlink_to(target)
    os.chown(place, owner, owner, follow_symlinks=False)


def test_roots_link_in_roots_directory_is_followed(owners: Path) -> None:
    link(owners / "d" / "current", "../app/app.log", 0)
    assert read(owners, "d/current", OWNED_LINKS) == "content"


def test_the_owners_link_in_the_owners_directory_is_followed(owners: Path) -> None:
    link(owners / "app" / "current", "app.log", APP)
    assert read(owners, "app/current", OWNED_LINKS) == "content"


def test_an_absolute_link_is_followed_from_the_top(owners: Path) -> None:
    link(owners / "app" / "current", owners / "app" / "app.log", APP)
    assert read(owners, "app/current", OWNED_LINKS) == "content"


def test_a_link_to_a_directory_is_followed(owners: Path) -> None:
    link(owners / "today", "app", 0)
    assert read(owners, "today/app.log", OWNED_LINKS) == "content"


def test_a_chain_of_links_is_followed(owners: Path) -> None:
    link(owners / "one", "d/two", 0)
    link(owners / "d" / "two", "../three", 0)
    link(owners / "three", "./app/./app.log", 0)
    assert read(owners, "one", OWNED_LINKS) == "content"


def test_a_link_above_the_root_is_followed(owners: Path, tmp_path: Path) -> None:
    link(owners / "d" / "up", "../../outside/secret", 0)
    assert read(owners, "d/up", OWNED_LINKS) == "SECRET"
    link(owners / "d" / "top", "../" * 60 + str(owners / "app" / "app.log").lstrip("/"), 0)
    assert read(owners, "d/top", OWNED_LINKS) == "content"


REFUSED = "neither root nor the owner"


def test_an_enemys_link_to_roots_file_is_refused(owners: Path) -> None:
    link(owners / "enemy" / "log", "../secret", ENEMY)
    with pytest.raises(LinkRefused, match=REFUSED):
        read(owners, "enemy/log", OWNED_LINKS)


def test_an_enemys_link_to_anothers_file_is_refused(owners: Path) -> None:
    link(owners / "enemy" / "log", "../app/app.log", ENEMY)
    with pytest.raises(LinkRefused, match=REFUSED):
        read(owners, "enemy/log", OWNED_LINKS)


def test_an_enemys_link_to_a_directory_is_refused(owners: Path) -> None:
    link(owners / "enemy" / "linked", "/", ENEMY)
    with pytest.raises(LinkRefused, match=REFUSED):
        read(owners, f"enemy/linked{owners}/secret", OWNED_LINKS)


def test_an_enemys_link_in_a_directory_of_roots_is_refused(owners: Path) -> None:
    """/tmp, and directories that a group may write."""
    link(owners / "d" / "log", "../secret", ENEMY)
    with pytest.raises(LinkRefused, match=REFUSED):
        read(owners, "d/log", OWNED_LINKS)


def test_roots_link_in_an_enemys_directory_is_refused(owners: Path) -> None:
    """Whoever owns the directory can put any link of root's there, by renaming."""
    link(owners / "enemy" / "log", "../secret", 0)
    with pytest.raises(LinkRefused, match=REFUSED):
        read(owners, "enemy/log", OWNED_LINKS)
    os.unlink(owners / "enemy" / "log")
    link(owners / "enemy" / "log", "../app/app.log", 0)
    with pytest.raises(LinkRefused, match=REFUSED):
        read(owners, "enemy/log", OWNED_LINKS)


def test_one_link_of_an_enemys_spoils_the_chain(owners: Path) -> None:
    link(owners / "one", "enemy/two", 0)
    link(owners / "enemy" / "two", "../d/three", ENEMY)
    link(owners / "d" / "three", "../secret", 0)
    with pytest.raises(LinkRefused, match=REFUSED):
        read(owners, "one", OWNED_LINKS)


def test_an_enemy_may_link_to_a_file_of_the_enemys_own(owners: Path) -> None:
    (owners / "enemy" / "own").write_text("lies")
    os.chown(owners / "enemy" / "own", ENEMY, ENEMY)
    link(owners / "enemy" / "log", "own", ENEMY)
    assert read(owners, "enemy/log", OWNED_LINKS) == "lies"


def test_a_link_to_what_this_process_alone_sees_is_refused(owners: Path) -> None:
    """/proc/self is the agent's own for the agent."""
    link(owners / "enemy" / "log", "/proc/self/environ", ENEMY)
    with pytest.raises(LinkRefused, match=REFUSED):
        read(owners, "enemy/log", OWNED_LINKS)


# links inside a tree


def test_a_link_that_stays_inside_is_followed(root: Path) -> None:
    (root / "link").symlink_to("d/app.log")
    (root / "d" / "up").symlink_to("../d/./app.log")
    (root / "linked").symlink_to("d")
    for relative in ("link", "d/up", "linked/app.log", "linked/up"):
        assert read(root, relative, INSIDE_LINKS) == "content"


@pytest.mark.parametrize(
    "target",
    ["../outside/secret", "d/../../outside/secret", "d/../../root/d/app.log", ".."],
)
def test_a_link_that_leads_outside_is_refused_even_if_it_comes_back(root: Path, target: str) -> None:
    (root / "link").symlink_to(target)
    with pytest.raises(LinkRefused, match="outside the tree"):
        read(root, "link", INSIDE_LINKS)


def test_an_absolute_link_is_refused_even_to_the_inside(root: Path) -> None:
    (root / "link").symlink_to(root / "d" / "app.log")
    with pytest.raises(LinkRefused, match="absolute"):
        read(root, "link", INSIDE_LINKS)


def test_a_directory_link_that_leads_outside_is_refused(root: Path) -> None:
    (root / "d" / "linked").symlink_to("../../outside")
    with pytest.raises(LinkRefused, match="outside the tree"):
        read(root, "d/linked/secret", INSIDE_LINKS)


# too much


@pytest.mark.parametrize("links", [OWNED_LINKS, INSIDE_LINKS], ids=["owned", "inside"])
def test_forty_links_are_followed_and_one_more_is_not(root: Path, links: Links) -> None:
    (root / "0").symlink_to("d/app.log")
    for number in range(1, 41):
        (root / str(number)).symlink_to(str(number - 1))
    assert read(root, "39", links) == "content"
    with pytest.raises(LinkRefused, match="too many"):
        read(root, "40", links)


@pytest.mark.parametrize("links", [OWNED_LINKS, INSIDE_LINKS], ids=["owned", "inside"])
def test_links_in_a_circle_end(root: Path, links: Links) -> None:
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    (root / "c").symlink_to("c/c/c")
    for relative in ("a", "c"):
        with pytest.raises(LinkRefused, match="too many"):
            read(root, relative, links)


@POLICIES
def test_a_tree_without_end_costs_a_bounded_number_of_descriptors(root: Path, links: Links) -> None:
    deep = "/".join(["x"] * 600)
    os.makedirs(root / deep)
    (root / deep / "file").touch()
    with pytest.raises(TooDeep):
        read(root, f"{deep}/file", links)
    allowed = "/".join(["x"] * 200)
    (root / allowed / "file").write_text("content")
    assert read(root, f"{allowed}/file", links) == "content"


# what is no file


@POLICIES
@pytest.mark.parametrize("relative", ["", ".", "d", "d/"])
def test_a_directory_is_refused(root: Path, relative: str, links: Links) -> None:
    with pytest.raises(NotRegular):
        read(root, relative, links)


@POLICIES
def test_a_link_to_a_directory_is_no_file(root: Path, links: Links) -> None:
    (root / "link").symlink_to("d")
    (root / "d" / "back").symlink_to("..")
    for relative in ("link", "d/back"):
        with pytest.raises(FileRefused):
            read(root, relative, links)


@POLICIES
def test_a_socket_is_refused(root: Path, links: Links) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(root / "socket"))
        with pytest.raises(NotRegular):
            read(root, "socket", links)


@POLICIES
def test_a_fifo_is_refused_at_once(root: Path, links: Links) -> None:
    os.mkfifo(root / "fifo")
    with pytest.raises(NotRegular):
        read(root, "fifo", links)


def test_a_writer_that_waits_for_the_true_reader_of_a_fifo_goes_on_waiting(root: Path) -> None:
    """Opening the FIFO, and closing it again, would let the writer go and kill it by SIGPIPE."""
    os.mkfifo(root / "fifo")
    written = threading.Event()

    def write() -> None:
        with open(root / "fifo", "wb") as fifo:
            fifo.write(b"for the true reader")
        written.set()

    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(200):
        with pytest.raises(NotRegular):
            read(root, "fifo")
    assert not written.wait(0.05)
    assert (root / "fifo").read_bytes() == b"for the true reader"
    writer.join(5)
    assert not writer.is_alive()


def test_a_device_is_refused_without_being_opened(root: Path) -> None:
    """An unknown device can't be opened at all: that it is refused as no file shows that nobody tried."""
    only_root()
    os.mknod(root / "device", 0o600 | stat.S_IFCHR, os.makedev(240, 77))
    with pytest.raises(NotRegular):
        read(root, "device")
    with pytest.raises(NotRegular):
        read("/dev", "null")


# hard links


def test_a_file_of_several_names_is_refused_while_everything_can_be_read(root: Path, tmp_path: Path) -> None:
    os.link(tmp_path / "outside" / "secret", root / "d" / "innocent.log")
    with pytest.raises(ManyLinks) as caught:
        read(root, "d/innocent.log", privileged=True)
    assert caught.value.errno == errno.EMLINK
    assert read(root, "d/innocent.log", privileged=False) == "SECRET"


def test_whether_everything_can_be_read_is_looked_up(root: Path, tmp_path: Path) -> None:
    only_root()
    os.link(tmp_path / "outside" / "secret", root / "d" / "innocent.log")
    with pytest.raises(ManyLinks):
        read(root, "d/innocent.log")


def test_capabilities_and_not_the_user_id_decide(public: Path) -> None:
    assert may_read_everything()
    assert as_user(AGENT, may_read_everything) == "False"


@pytest.mark.parametrize(("capability", "reads_all"), [(1, True), (2, True), (6, False)])
def test_either_of_two_capabilities_reads_everything(public: Path, capability: int, reads_all: bool) -> None:
    """CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, each alone; CAP_SETGID does not."""
    assert as_user(0, lambda: reads_with_only(capability)) == str(reads_all)


def reads_with_only(number: int) -> bool:
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this thread
    sets = (ctypes.c_uint32 * 6)(1 << number, 1 << number, 0, 0, 0, 0)
    if libc.capset(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capset")
    return may_read_everything()


def test_without_privilege_a_hard_link_opens_nothing_that_permissions_forbid(public: Path) -> None:
    (public / "secret").write_text("SECRET")
    os.chmod(public / "secret", 0o600)
    os.link(public / "secret", public / "innocent.log")
    assert as_user(AGENT, lambda: read(public, "innocent.log")) == "PermissionError"


# permissions


@POLICIES
def test_another_users_process_reads_what_it_may_and_no_more(public: Path, links: Links) -> None:
    (public / "d").mkdir(mode=0o755)
    (public / "d" / "open").write_text("content")
    (public / "d" / "shut").write_text("SECRET")
    os.chmod(public / "d" / "open", 0o644)
    os.chmod(public / "d" / "shut", 0o600)
    (public / "closed").mkdir(mode=0o700)
    (public / "closed" / "open").touch(mode=0o644)
    assert as_user(AGENT, lambda: read(public, "d/open", links)) == "content"
    assert as_user(AGENT, lambda: read(public, "d/shut", links)) == "PermissionError"
    assert as_user(AGENT, lambda: read(public, "closed/open", links)) == "PermissionError"


def test_a_directory_that_may_be_passed_and_not_listed_is_passed(public: Path) -> None:
    (public / "d").mkdir()
    os.chmod(public / "d", 0o711)
    (public / "d" / "app.log").write_text("content")
    os.chmod(public / "d" / "app.log", 0o644)
    assert as_user(AGENT, lambda: read(public, "d/app.log")) == "content"


def test_a_lease_of_the_files_owner_does_not_hold_us_up(root: Path) -> None:
    """Whoever owns a file may let every opening of it wait for 45 seconds (fcntl(2), F_SETLEASE)."""
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)  # the kernel's way to ask for the lease back
    holder = os.open(root / "d" / "app.log", os.O_RDWR)
    try:
        fcntl.fcntl(holder, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        with pytest.raises(BlockingIOError):
            read(root, "d/app.log")
    finally:
        os.close(holder)
        signal.signal(signal.SIGIO, before)
    assert read(root, "d/app.log") == "content"


# races


def racing(*pairs: tuple[Path, Path], look: Callable[[], str], sides: set[str]) -> set[str]:
    """What `look` finds, while another process exchanges the names of each pair, round and round.

    It looks often, and goes on for as long as it takes to meet all `sides` of the race.
    """
    child = os.fork()
    if child == 0:
        while True:
            for a, b in pairs:
                exchange(a, b)
    try:
        found = {seen(look) for _ in range(1500)}
        for _ in range(100_000):
            if sides <= found:
                break
            found.add(seen(look))
        return found
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def exchange(a: Path, b: Path) -> None:
    """At once: neither name is ever missing (renameat2(2), RENAME_EXCHANGE)."""
    if libc.renameat2(-100, os.fsencode(a), -100, os.fsencode(b), 2) != 0:
        os._exit(1)


def seen(look: Callable[[], str]) -> str:
    try:
        return look()
    except OSError as error:
        return type(error).__name__


@pytest.mark.parametrize("links", [NO_LINKS, INSIDE_LINKS], ids=["none", "inside"])
def test_a_directory_exchanged_for_a_link_in_the_middle_of_the_walk_leads_nowhere(
    root: Path, tmp_path: Path, links: Links
) -> None:
    (root / "d" / "secret").write_text("content")
    (root / "trap").symlink_to(tmp_path / "outside")
    sides = {"content", "LinkRefused"}
    found = racing((root / "d", root / "trap"), look=lambda: read(root, "d/secret", links), sides=sides)
    assert found - {"NotADirectoryError"} == sides


def test_a_file_exchanged_for_a_link_or_a_fifo_is_never_read(root: Path, tmp_path: Path) -> None:
    (root / "d" / "trap").symlink_to(tmp_path / "outside" / "secret")
    os.mkfifo(root / "d" / "fifo")
    app, trap, fifo = root / "d" / "app.log", root / "d" / "trap", root / "d" / "fifo"
    sides = {"content", "LinkRefused", "NotRegular"}
    assert racing((app, trap), (app, fifo), look=lambda: read(root, "d/app.log"), sides=sides) == sides


def test_an_enemys_link_exchanged_for_roots_between_two_looks_is_refused(owners: Path) -> None:
    """In a directory that others may write, root's link can be renamed away. Owner and target are of one link."""
    current, trap = owners / "d" / "current", owners / "d" / "trap"
    link(current, "../app/app.log", 0)
    link(trap, "../secret", ENEMY)
    sides = {"content", "LinkRefused"}
    assert racing((current, trap), look=lambda: read(owners, "d/current", OWNED_LINKS), sides=sides) == sides


# descriptors


def test_no_failure_leaves_a_descriptor_open(root: Path, tmp_path: Path) -> None:
    (root / "up").symlink_to("../outside/secret")
    (root / "away").symlink_to("/etc/passwd")
    (root / "circle").symlink_to("circle")
    (root / "d" / "deep").mkdir()
    os.mkfifo(root / "d" / "deep" / "fifo")
    before = sorted(os.listdir("/proc/self/fd"))
    names = [
        "../x",
        "/x",
        "d/../x",
        "up",
        "away",
        "circle",
        "d/deep/fifo",
        "d/deep/none",
        "d/app.log/x",
        "none/x",
        "",
    ]
    for links in (NO_LINKS, OWNED_LINKS, INSIDE_LINKS):
        for name in names:
            if (name, links) not in (("up", OWNED_LINKS), ("away", OWNED_LINKS)):
                with pytest.raises(OSError, match=r"\[Errno"):
                    read(root, name, links)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none", "x")
    assert sorted(os.listdir("/proc/self/fd")) == before
