"""An answer that is an error, before a protocol gives it its shape on the wire."""

from collections.abc import Mapping


class ApiError(Exception):
    """The service refuses: `code` and `status` are AWS's; services derive theirs from it.

    `shape` is the name in the service's model where that differs from the code; `details` are further elements of the
    answer.
    """

    code = "InternalFailure"
    status = 500
    shape: str | None = None

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        details: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.code
        self.status = status or self.status
        self.headers = dict(headers or {})
        self.details = dict(details or {})
