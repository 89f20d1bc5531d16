"""The value types of the configuration: each reads what a user writes, or says in a ValueError what to write."""

from __future__ import annotations

import ipaddress
import os.path
import re
import warnings
from typing import Annotated, Any, NamedTuple

from agent.config.errors import quoted
from agent.config.markers import Bytes, Parsed, Seconds
from agent.config.units import format_percentage, parse_percentage

_MAX_PATTERN = 4096  # characters of a pattern of any kind, as many as a path has (PATH_MAX)
_PRINTABLE = r"[^\x00-\x1f\x7f]"

Duration = Annotated[float, Seconds()]
PositiveDuration = Annotated[float, Seconds("1ms")]
Size = Annotated[int, Bytes()]
PositiveSize = Annotated[int, Bytes("1B")]
Percentage = Annotated[float, Parsed("percentage", parse_percentage, format_percentage)]


class Address(NamedTuple):
    """Where a socket listens; fits `socket.bind` as it is."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback


def parse_address(value: object) -> Address:
    """An IP address (or localhost) and a port; 0 is any free port. Names are not looked up."""
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]\s]+):([0-9]{1,5})", value) if isinstance(value, str) else None
    if match is None or int(match[2]) > 65535 or not _is_host(match[1].strip("[]")):
        raise ValueError(f"{quoted(value)} is not an address and port, for example 127.0.0.1:8125")
    return Address(match[1].strip("[]"), int(match[2]))


def parse_loopback(value: object) -> Address:
    """An address that only processes of this machine can reach."""
    address = parse_address(value)
    if not address.is_loopback:
        raise ValueError(f"{quoted(value)} is not on the loopback interface; write 127.0.0.1:{address.port}")
    return address


def parse_pattern(value: object) -> re.Pattern[str]:
    """A regular expression of Python's, for re.search."""
    if not isinstance(value, str):
        raise ValueError(f"{quoted(value)} is not a regular expression; put it in quotes")
    if len(value) > _MAX_PATTERN:
        raise ValueError(f"{quoted(value)} is longer than {_MAX_PATTERN} characters")
    try:
        with warnings.catch_warnings(action="ignore", category=FutureWarning):  # a set that begins with [
            return re.compile(value)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"{quoted(value)} is not a regular expression: {error}") from None


def parse_path(value: object) -> str:
    """An absolute path, without doubled or trailing slashes."""
    if not isinstance(value, str) or not re.fullmatch(rf"/{_PRINTABLE}*", value):
        raise ValueError(f"{quoted(value)} is not an absolute path; it begins with /")
    if ".." in value.split("/"):
        raise ValueError(f"{quoted(value)} climbs by ..; write the path without it")
    return os.path.normpath("/" + value.strip("/"))


def parse_directory(value: object) -> str:
    """An absolute path below the root directory."""
    path = parse_path(value)
    if path == "/":
        raise ValueError("the root directory itself is refused; name the directories that matter")
    return path


def parse_glob(value: object) -> str:
    """A pattern of * ? [..] {a,b} and **."""
    if not isinstance(value, str) or not re.fullmatch(rf"{_PRINTABLE}+", value):
        raise ValueError(f"{quoted(value)} is not a pattern of file names; put it in quotes")
    if len(value) > _MAX_PATTERN:
        raise ValueError(f"{quoted(value)} is longer than {_MAX_PATTERN} characters")
    outside = re.sub(r"\[[^\]/]+\]", "", value)
    if re.search(r"[{}\[]", re.sub(r"\{[^{}]*\}", "", outside)):
        raise ValueError(f"{quoted(value)} has a bracket or brace that is unbalanced or within another")
    return value


def parse_absolute_glob(value: object) -> str:
    """A pattern that begins at the root directory."""
    pattern = parse_glob(value)
    if not pattern.startswith("/") or pattern.endswith("/"):
        raise ValueError(f"{quoted(value)} is not the absolute path of files; it begins with / and ends in a name")
    return pattern


def parse_mode(value: object) -> int:
    """Permission bits, from octal digits in quotes. Bare digits would mean a decimal number in YAML 1.2."""
    if not isinstance(value, str) or re.fullmatch("0?[0-7]{3}", value) is None:
        raise ValueError(f'{quoted(value)} is not a file mode in quotes, for example "0640"')
    return int(value, 8)


def parse_encoding(value: object) -> str:
    """A text encoding that Python knows."""
    try:
        if isinstance(value, str):
            "".encode(value)
            return value
    except (LookupError, ValueError):
        pass  # unknown, or bytes to bytes as `hex`
    raise ValueError(f"{quoted(value)} is not a text encoding that Python knows, for example utf-8, latin-1, utf-16")


def parse_timezone(value: object) -> str:
    """`UTC`, `local`, or a name of the IANA time zone database."""
    import zoneinfo  # few configurations name a zone

    if value in ("UTC", "local"):
        return str(value)
    try:
        if isinstance(value, str):
            return zoneinfo.ZoneInfo(value).key
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        pass  # unknown, or no name at all
    raise ValueError(f"{quoted(value)} is not a time zone known here; write UTC, local, or a name as Europe/Berlin")


def parse_cron(value: object) -> str:
    """Five fields of crontab. Weekdays by name: their numbers mean different days to cron and to the scheduler."""
    if not isinstance(value, str) or len(value) > _MAX_PATTERN:
        raise ValueError(f'{quoted(value)} is not a crontab expression in quotes, for example "30 2 * * *"')
    from apscheduler.triggers.cron import CronTrigger  # heavy; few configurations have one

    try:
        CronTrigger.from_crontab(value, timezone="UTC")
    except ValueError as error:
        raise ValueError(f"{quoted(value)} is not a crontab expression: {error}") from None
    if re.search("[0-9]", value.split()[4]):
        raise ValueError(f"{quoted(value)} numbers its weekdays; name them: mon, tue, mon-fri")
    return value


def parse_arguments(value: object) -> tuple[str, ...]:
    """A command and its arguments."""
    if not isinstance(value, list) or not value:
        raise ValueError(
            f"{quoted(value)} is not a command; write it as a list of words: [systemctl, stop, shop.service]"
        )
    for word in value:
        if not isinstance(word, str):
            raise ValueError(f"{quoted(word)} is not text; put it in quotes")
        if "\0" in word:
            raise ValueError("a word of a command can't hold a NUL character")
    if not value[0]:
        raise ValueError("the first word of a command is the program; it can't be empty")
    return tuple(value)


def _is_host(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _show_pattern(pattern: Any) -> str:
    return str(pattern.pattern)


def _show_mode(mode: Any) -> str:
    return f'"{mode:04o}"'


SocketAddress = Annotated[Address, Parsed("address:port", parse_address)]
LoopbackAddress = Annotated[Address, Parsed("address:port on loopback", parse_loopback)]
Pattern = Annotated[re.Pattern[str], Parsed("regular expression", parse_pattern, _show_pattern)]
AbsolutePath = Annotated[str, Parsed("absolute path", parse_path)]
DirectoryPath = Annotated[str, Parsed("absolute path below /", parse_directory)]
Glob = Annotated[str, Parsed("pattern", parse_glob)]
AbsoluteGlob = Annotated[str, Parsed("absolute path or pattern", parse_absolute_glob)]
FileMode = Annotated[int, Parsed('octal mode in quotes, as "0640"', parse_mode, _show_mode)]
Encoding = Annotated[str, Parsed("encoding", parse_encoding)]
TimeZone = Annotated[str, Parsed("time zone", parse_timezone)]
Cron = Annotated[str, Parsed("crontab expression", parse_cron)]
Arguments = Annotated[tuple[str, ...], Parsed("list of words", parse_arguments)]
