"""The places whose text may hold placeholders, and what each allows: AWS's rule for the name, and our own.

Only the values put in for placeholders are fitted to a place; the user's own text must be right as it stands.
Sources: the API references of CloudWatch Logs (CreateLogGroup, CreateLogStream, TagResource), CloudWatch (Dimension,
PutMetricAlarm), SNS (Publish), and S3's user guide (bucket naming rules, object keys, object metadata, object tags).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from agent.config.errors import quoted, with_article
from agent.config.grammar import DATE_NAMES, FILE_NAMES, INSTANCE_NAMES, Placeholder, parse
from agent.config.markers import Marker

_CONTROL = r"\x00-\x1f\x7f-\x9f"
_NEVER = r"{}\ud800-\udfff"  # would be read as a placeholder later, or can't be encoded
_TAG = r"\w .:/=+\-@\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"  # letters, digits, spaces and these signs
_ASCII = r"\x20-\x7e"
_DIGEST_LENGTH = 16  # hexadecimal digits that keep two shortened names apart

_SAMPLES = {
    "instance_id": "i-0123456789abcdef0",
    "private_ip": "10.0.0.1",
    "region": "eu-west-1",
    "account_id": "123456789012",
    "availability_zone": "eu-west-1a",
    "instance_type": "m7g.large",
    "image_id": "ami-0123456789abcdef0",
    "state_dir": "/var/lib/outlive",
    "run_dir": "/run/outlive",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """What a place allows. `limit` bounds the whole text in UTF-8 bytes (`in_bytes`) or characters."""

    label: str
    forbidden: str  # a class of characters, without its brackets
    shape: str  # that the whole text has besides
    limit: int
    in_bytes: bool = False


class Place(Enum):
    """A kind of place. `fit` makes a value fit, `complaint` says what is wrong with a whole text."""

    LOG_GROUP = Rule("log group", r"^.\-_/#A-Za-z0-9", r"(?!aws/).+", 512)
    LOG_STREAM = Rule("log stream", rf":*{_CONTROL}", r".+", 512)
    OBJECT_KEY = Rule("S3 key", _CONTROL, r".+", 1024, in_bytes=True)
    KEY_PREFIX = Rule("S3 key prefix", _CONTROL, r".*", 1000, in_bytes=True)
    DIMENSION = Rule("metric dimension", f"^{_ASCII}", r"(?!:).*\S.*", 1024)
    METRIC_PREFIX = Rule("metric name prefix", f"^{_ASCII}", r".*", 200)
    ALARM = Rule("alarm name", _CONTROL, r"outlive/.+", 255)
    TAG = Rule("tag", f"^{_TAG}", r".*", 256)
    OBJECT_METADATA = Rule("S3 metadata", f"^{_ASCII}", r".*", 2000)
    BUCKET = Rule("S3 bucket", r"^a-z0-9.\-", r"(?!.*\.\.)[a-z0-9][a-z0-9.-]+[a-z0-9]", 63)
    TOPIC = Rule(
        "SNS topic ARN",
        r"^A-Za-z0-9:_\-",
        r"arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}",
        400,
    )
    OWN_PATH = Rule("absolute path", _CONTROL, r"/.*", 4095, in_bytes=True)
    OWN_SOCKET = Rule("absolute path of a socket", _CONTROL, r"/.*[^/]", 107, in_bytes=True)  # sun_path, unix(7)

    @property
    def rule(self) -> Rule:
        return self.value

    def fit(self, value: str, name: str = "") -> str:
        """The value of a placeholder with what the place does not allow replaced by underscores."""
        fitted = _replacer(self).sub("_", value)
        if self in _PATHS and name not in ("state_dir", "run_dir"):
            fitted = fitted.replace("/", "_")
        if self in _CLIMBABLE and set(fitted) <= {"."}:
            return "_" * len(fitted)
        return fitted

    def shorten(self, text: str) -> str:
        """A text that is over the limit cut to it, its end a digest of the whole, so that two stay two."""
        if self._length(text) <= self.rule.limit:
            return text
        from hashlib import sha256

        digest = sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_LENGTH]
        return f"{self._cut(text, self.rule.limit - _DIGEST_LENGTH - 1)}_{digest}"

    def complaint(self, text: str) -> str | None:
        """What is wrong with a text that stands in this place, or None. Placeholders are replaced before."""
        rule = self.rule
        refused = _replacer(self).search(text)
        if refused is not None:
            return f"{quoted(refused[0])} is not allowed in {with_article(rule.label)}"
        if re.fullmatch(rule.shape, text, re.DOTALL) is None:
            return f"{quoted(text)} is no {rule.label}{_HINTS.get(self, '')}"
        if self._length(text) > rule.limit:
            unit = "bytes" if rule.in_bytes else "characters"
            return f"{quoted(text)} is too long: {with_article(rule.label)} has at most {rule.limit} {unit}"
        return None

    def _length(self, text: str) -> int:
        return len(text.encode("utf-8", "surrogatepass")) if self.rule.in_bytes else len(text)

    def _cut(self, text: str, length: int) -> str:
        if self.rule.in_bytes:
            return text.encode("utf-8", "surrogatepass")[:length].decode("utf-8", "ignore")
        return text[:length]


_PATHS = frozenset([Place.OWN_PATH, Place.OWN_SOCKET])
_CLIMBABLE = _PATHS | {Place.OBJECT_KEY, Place.KEY_PREFIX}
_HINTS = {
    Place.LOG_GROUP: ": it may not be empty or begin with aws/",
    Place.LOG_STREAM: ": it may not be empty",
    Place.OBJECT_KEY: ": it may not be empty",
    Place.DIMENSION: ": it may not be blank or begin with a colon",
    Place.ALARM: ": it must begin with outlive/, so that a policy can allow the agent its own alarms and no others",
    Place.OWN_PATH: ": it must begin with /",
    Place.OWN_SOCKET: ": it must begin with /, {run_dir} or {state_dir}",
    Place.TOPIC: ", for example arn:aws:sns:eu-west-1:123456789012:ops",
    Place.BUCKET: ": 3 to 63 of a-z, 0-9, dot and hyphen",
}


class Uses(Enum):
    """Which placeholders a field takes besides those of the instance."""

    INSTANCE = frozenset(INSTANCE_NAMES)
    OWN_DIRECTORY = frozenset(INSTANCE_NAMES) - {"state_dir", "run_dir"}
    DATE = frozenset(INSTANCE_NAMES) | frozenset(DATE_NAMES)
    FILE = frozenset(INSTANCE_NAMES) | frozenset(DATE_NAMES) | frozenset(FILE_NAMES)


@dataclass(frozen=True, slots=True)
class Placed(Marker):
    """Marks text that may hold placeholders; checks it when it is loaded."""

    place: Place
    uses: Uses = Uses.INSTANCE

    @property
    def label(self) -> str:  # type: ignore[override]  # the place's
        return self.place.rule.label

    def check(self, text: str) -> str:
        """The text, or ValueError. Literal text and fallbacks are held to the place's rule."""
        parts = parse(text)
        for part in parts:
            self._check_part(part)
        for rendered in ("".join(map(self._sample, parts)), "".join(map(self._fallback, parts))):
            if (complaint := self.place.complaint(rendered)) is not None:
                raise ValueError(complaint)
        return text

    def complaint(self, resolved: str) -> str | None:
        """What is wrong with a text whose placeholders of the instance are replaced, or None."""
        return self.place.complaint("".join(map(self._sample, parse(resolved))))

    def _check_part(self, part: str | Placeholder) -> None:
        if isinstance(part, str) or part.name in self.uses.value:
            return
        if part.name in FILE_NAMES:
            raise ValueError(f"{part} has no meaning here: this {self.label} belongs to no single file")
        if part.name in DATE_NAMES:
            raise ValueError(f"{part} is refused: this {self.label} is fixed when the agent starts")
        raise ValueError(f"{part} can't be used in the directories of the agent themselves")

    def _sample(self, part: str | Placeholder) -> str:
        return part if isinstance(part, str) else self.place.fit(_SAMPLES.get(part.name, "x"), part.name)

    def _fallback(self, part: str | Placeholder) -> str:
        return self._sample(part) if isinstance(part, str) or part.fallback is None else part.fallback

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))


def _replacer(place: Place) -> re.Pattern[str]:
    forbidden = place.rule.forbidden
    return re.compile(f"[{forbidden}]|[{_NEVER}]")
