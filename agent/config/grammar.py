"""The grammar of placeholders: `{name}`, `{name:argument}`, each with an optional `|fallback`, between literal text.

text         = (literal | placeholder)*         a literal holds neither { nor }
placeholder  = "{" name [":" argument] ["|" fallback] "}"
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from agent.config.errors import quoted
from agent.config.markers import suggestion

INSTANCE_NAMES = {
    "instance_id": "the instance's id; off EC2 `agent.instance_id`, or else the host name",
    "hostname": "the host name",
    "private_ip": "the primary private IPv4 address",
    "region": "the region, as `eu-west-1`",
    "account_id": "the account, twelve digits",
    "availability_zone": "the zone, as `eu-west-1a`",
    "instance_type": "the type, as `m7g.large`",
    "image_id": "the AMI",
    "auto_scaling_group": "the Auto Scaling group's name, where the instance belongs to one",
    "tag": "the instance's tag of that name, as `{tag:Name}`",
    "env": "the agent's environment variable of that name, as `{env:STAGE}`; never one of `AWS_*`",
    "state_dir": "`agent.state_dir`",
    "run_dir": "`agent.run_dir`",
}
FILE_NAMES = {
    "file_name": "the file's name, as `access.log`",
    "file_stem": "the same without its last suffix, as `access`",
    "file_path": "the whole path, its slashes as underscores, as `_var_log_nginx_access.log`",
    "parent": "the name of the directory that holds the file, as `nginx`",
}
DATE_NAMES = {"date": "the date and time in UTC by a strftime format, as `{date:%Y-%m-%d}`"}
LATE_NAMES = frozenset(FILE_NAMES) | frozenset(DATE_NAMES)  # replaced per batch or upload, not at start
MEANINGS = {**INSTANCE_NAMES, **DATE_NAMES, **FILE_NAMES}
EXAMPLES = {"tag": "{tag:Name}", "env": "{env:STAGE}", "date": "{date:%Y-%m-%d}"}  # those that take an argument
_DATE_DIRECTIVES = frozenset("aAbBdGHIjmMpSuUVwWyYzZ%")  # those of strftime that every platform knows
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TOKEN = re.compile(r"[^{}]+|\{[^{}]*\}|[{}]")


@dataclass(frozen=True, slots=True)
class Placeholder:
    """One placeholder of a text: {name:argument|fallback}. `fallback` None: there is none."""

    name: str
    argument: str = ""
    fallback: str | None = None

    @property
    def fact(self) -> str:
        """What it asks for, without the fallback: `region`, `tag:Name`, `env:STAGE`."""
        return f"{self.name}:{self.argument}" if self.argument else self.name

    def __str__(self) -> str:
        return f"{{{self.fact}}}" if self.fallback is None else f"{{{self.fact}|{self.fallback}}}"


def parse(text: str) -> tuple[str | Placeholder, ...]:
    """The literals and placeholders of a text, in order. Raises ValueError that says what to write instead."""
    return tuple(_part(token, text) for token in _TOKEN.findall(text))


def placeholders(text: str) -> tuple[Placeholder, ...]:
    """Only the placeholders of a valid text."""
    return tuple(part for part in parse(text) if isinstance(part, Placeholder))


def _part(token: str, text: str) -> str | Placeholder:
    if token[0] not in "{}":
        return token
    if len(token) == 1:
        raise ValueError(f"{quoted(text)} has an unbalanced {token}; placeholders are written {{instance_id}}")
    body, bar, fallback = token[1:-1].partition("|")
    name, colon, argument = body.partition(":")
    if colon and not argument and name not in EXAMPLES:
        raise ValueError(f"{token} has nothing after its colon; write {{{name}}}")
    placeholder = Placeholder(name, argument, fallback if bar else None)
    _check(placeholder)
    return placeholder


def _check(placeholder: Placeholder) -> None:
    name, argument = placeholder.name, placeholder.argument
    if name not in MEANINGS:
        raise ValueError(f"unknown placeholder {{{name}}}{suggestion(name, tuple(MEANINGS))}")
    if name in EXAMPLES and not argument:
        raise ValueError(f"{placeholder} does not say which; write it as in {EXAMPLES[name]}")
    if name not in EXAMPLES and argument:
        raise ValueError(f"{placeholder} takes nothing after a colon; write {{{name}}}")
    if name in LATE_NAMES and placeholder.fallback is not None:
        raise ValueError(f"{placeholder} always has a value; leave out the fallback")
    if name == "env":
        _check_environment_name(argument)
    if name == "date":
        _check_date_format(argument)


def _check_environment_name(name: str) -> None:
    if name.upper().startswith("AWS_"):
        raise ValueError(f"{{env:{name}}} is refused: AWS_* may hold secrets, which must not end in a name")
    if _ENVIRONMENT_NAME.fullmatch(name) is None:
        raise ValueError(f"{quoted(name)} is not the name of an environment variable")


def _check_date_format(pattern: str) -> None:
    directives = re.findall(r"%(.?)", pattern, re.DOTALL)
    unknown = [letter for letter in directives if letter not in _DATE_DIRECTIVES or not letter]
    if unknown or not set(directives) - {"%"}:
        what = f"%{unknown[0]}" if unknown else quoted(pattern)
        raise ValueError(f"{what} is not a date format as strftime takes it; write {{date:%Y-%m-%d}}")
