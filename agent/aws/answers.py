"""The body of an HTTP answer: whole, or an error. http.client gives out what came before a connection broke."""

from __future__ import annotations

import http.client


def read_whole(response: http.client.HTTPResponse, limit: int) -> bytes:
    """The body of an answer, of at most `limit` bytes.

    Raises http.client.HTTPException where it is longer, or shorter than its Content-Length says; OSError.
    """
    body = response.read(limit)
    if not response.isclosed() and response.read(1):
        raise http.client.HTTPException(f"an answer of more than {limit} bytes")
    if response.length:
        raise http.client.IncompleteRead(body, response.length)
    return body
