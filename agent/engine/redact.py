"""Secrets taken out of text that others wrote: what AWS, a proxy or a library says may quote our own request."""

from __future__ import annotations

import re

_SECRETS = re.compile(
    r"""
    ( (?: x-amz-security-token | session_?token | secret_?access_?key ) ["']? \s* [:=] \s* ["']? ) [^\s"',;&}]+
    | ( authorization ["']? \s* [:=] \s* ) [^\n]+
    | ( :// [^/\s:@]* : ) [^/\s@]+ (?= @ )  # a proxy's password in its URL
    """,
    re.IGNORECASE | re.VERBOSE,
)


def redacted(text: str) -> str:
    """`text` with the values of tokens, secret keys, Authorization headers and passwords in URLs starred out."""
    return _SECRETS.sub(lambda match: f"{match[1] or match[2] or match[3]}***", text)
