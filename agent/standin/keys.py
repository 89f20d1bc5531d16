"""The access keys that the stand-ins know: one for good, and temporary ones that roles hand out."""

import secrets
import string
import threading
from collections.abc import Callable
from dataclasses import dataclass

ACCESS_KEY = "AKIASTANDIN000000000"
SECRET_KEY = "stand-in/secret/key/that/opens/nothing/0"  # noqa: S105 - it opens only this process
MAX_TEMPORARY = 10_000  # temporary keys remembered; the oldest are forgotten first
_LETTERS = string.ascii_uppercase + string.digits


@dataclass(frozen=True, slots=True)
class Key:
    """An access key; `token` and `expires` (seconds since the epoch) only for temporary ones."""

    access_key: str
    secret_key: str
    arn: str
    token: str | None = None
    expires: float | None = None


class KeyRing:
    """Finds keys by their id and issues temporary ones."""

    def __init__(self, clock: Callable[[], float], account_id: str, limit: int = MAX_TEMPORARY) -> None:
        self.clock = clock
        self._lock = threading.Lock()
        user = Key(ACCESS_KEY, SECRET_KEY, f"arn:aws:iam::{account_id}:user/stand-in")
        self._permanent = {user.access_key: user}
        self._limit = limit
        self._temporary: dict[str, Key] = {}

    def find(self, access_key: str) -> Key | None:
        with self._lock:
            return self._permanent.get(access_key) or self._temporary.get(access_key)

    def issue(self, arn: str, lifetime: float) -> Key:
        """A fresh temporary key for the role session `arn`, good for `lifetime` seconds."""
        name = "ASIA" + "".join(secrets.choice(_LETTERS) for _ in range(16))
        expires = self.clock() + lifetime
        key = Key(name, secrets.token_urlsafe(30), arn, secrets.token_urlsafe(192), expires)
        with self._lock:
            self._temporary[name] = key
            if len(self._temporary) > self._limit:
                del self._temporary[next(iter(self._temporary))]
        return key

    def revoke_temporary(self) -> None:
        """Forget all temporary keys, as when a role's sessions are revoked."""
        with self._lock:
            self._temporary.clear()
