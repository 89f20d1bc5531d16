"""The checks that AWS's JSON services share, with their way of saying what failed."""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

Json = dict[str, Any]
Complaint = Callable[[str], Exception]


def constraint(value: object, name: str, rule: str) -> str:
    """AWS's sentence for a value that breaks a constraint of the model."""
    return (
        f"1 validation error detected: Value '{value}' at '{name}' failed to satisfy constraint: Member must {rule}"
    )


class Parameters:
    """The input of one call; each reading checks, and raises what `complain` makes of the sentence."""

    def __init__(self, values: Mapping[str, Any], complain: Complaint) -> None:
        self._values = values
        self._complain = complain

    def has(self, name: str) -> bool:
        return self._values.get(name) is not None

    def raw(self, name: str) -> Any:
        """A required value, unchecked."""
        value = self._values.get(name)
        if value is None:
            raise self._complain(constraint("null", name, "not be null"))
        return value

    def text(self, name: str, least: int = 1, most: int = 1024, pattern: re.Pattern[str] | None = None) -> str:
        value = self.raw(name)
        if not isinstance(value, str):
            raise self._complain(f"{name} can not be converted to a String")
        if len(value) < least:
            rule = f"have length greater than or equal to {least}"
        elif len(value) > most:
            rule = f"have length less than or equal to {most}"
        elif pattern and not pattern.fullmatch(value):
            rule = f"satisfy regular expression pattern: {pattern.pattern}"
        else:
            return value
        raise self._complain(constraint(value[:100], name, rule))

    def optional_text(
        self, name: str, most: int = 1024, pattern: re.Pattern[str] | None = None, least: int = 1
    ) -> str | None:
        return self.text(name, least, most, pattern) if self.has(name) else None

    def choice(self, name: str, allowed: Collection[str], default: str | None = None) -> str:
        value = self._values.get(name, default) if default is not None else self.raw(name)
        if value not in allowed:
            raise self._complain(constraint(value, name, f"satisfy enum value set: [{', '.join(allowed)}]"))
        return str(value)

    def integer(self, name: str, least: int, most: int, default: int | None = None) -> int:
        value = self._values.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._complain(f"{name} can not be converted to an Integer")
        if value < least:
            raise self._complain(constraint(value, name, f"have value greater than or equal to {least}"))
        if value > most:
            raise self._complain(constraint(value, name, f"have value less than or equal to {most}"))
        return value

    def flag(self, name: str, *, default: bool = False) -> bool:
        value = self._values.get(name, default)
        if not isinstance(value, bool):
            raise self._complain(f"{name} can not be converted to a Boolean")
        return value

    def items(self, name: str, most: int, least: int = 0) -> list[Any]:
        value = self._values.get(name) or []
        if not isinstance(value, list):
            raise self._complain(f"{name} must be a list")
        if len(value) < least:
            raise self._complain(constraint("[]", name, f"have length greater than or equal to {least}"))
        if len(value) > most:
            raise self._complain(constraint("[...]", name, f"have length less than or equal to {most}"))
        return value

    def tags(self, name: str = "tags", most: int = 50) -> dict[str, str]:
        value = self._values.get(name) or {}
        if not isinstance(value, dict) or len(value) > most:
            raise self._complain(constraint("{...}", name, f"have length less than or equal to {most}"))
        for key, text in value.items():
            if not 1 <= len(key) <= 128 or not isinstance(text, str) or len(text) > 256:
                raise self._complain(
                    constraint(key, name, "have keys of 1 to 128 and values of up to 256 characters")
                )
        return value
