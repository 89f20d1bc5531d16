"""One file of the configuration: opened with care, bounded, and decoded."""

from __future__ import annotations

import os
import stat

from agent.config.errors import Finding, UnreadableConfig

MAX_BYTES = 256 << 10  # of one file: fifty times what a configuration has; the worst takes three seconds to read


def read(path: str) -> tuple[str, tuple[Finding, ...]]:
    """The text of a file, and what is worth a note about the file itself. Raises UnreadableConfig."""
    data, mode = _bytes_of(path)
    notes: tuple[Finding, ...] = ()
    if mode & 0o022:
        who = "everyone" if mode & 0o002 else "its group"
        message = f"{who} may write this file, and so decide what is sent where; chmod go-w"
        notes = (Finding(path, 0, 0, "", message),)
    return _text_of(data, path), notes


def _bytes_of(path: str) -> tuple[bytes, int]:
    """Content and permission bits. Never waits, as opening a FIFO would."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except FileNotFoundError:
        raise _unreadable(path, "there is no such file; write one, or name another with -c") from None
    except PermissionError:
        raise _unreadable(path, "may not be read by this user; run as root or as the agent's user") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        raise _unreadable(path, f"can't be opened: {getattr(error, 'strerror', None) or error}") from None
    try:
        return _content(descriptor, path), stat.S_IMODE(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)


def _content(descriptor: int, path: str) -> bytes:
    kind = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(kind):
        raise _unreadable(path, f"is {'a directory' if stat.S_ISDIR(kind) else 'no regular file'}; name a YAML file")
    try:
        with open(descriptor, "rb", closefd=False) as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise _unreadable(path, f"can't be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise _unreadable(path, f"is larger than {MAX_BYTES >> 10} KiB; is it the right file?")
    return data


def _text_of(data: bytes, path: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8", "replace")
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        message = "is not UTF-8 text from here on; save it as UTF-8"
        raise UnreadableConfig([Finding(path, line, column, "", message)]) from None


def _unreadable(path: str, message: str) -> UnreadableConfig:
    return UnreadableConfig([Finding(path, 0, 0, "", message)])
