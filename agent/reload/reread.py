"""The configuration as its files say now: checked as `outlive run` checks it, filled in for this instance."""

from __future__ import annotations

import os
import threading
from queue import Empty, SimpleQueue

from agent.aws.errors import Transient
from agent.aws.metadata import Metadata, MetadataError
from agent.aws.session import Aws
from agent.config.load import load
from agent.config.placeholders import Facts, needed, resolve
from agent.config.schema import Config
from agent.reload.errors import FactsUnknown, Unserved
from agent.surroundings import Place, gather
from agent.unserved import unserved

FACT_SECONDS = 20.0  # for metadata and AWS to tell what placeholders need; then what they told before counts
_ASKED = ("account_id", "auto_scaling_group", "tag:")  # facts that are not at hand

Answer = Facts | MetadataError | Transient


class Reread:
    """Reads one file again and again, for one instance."""

    def __init__(
        self, path: str, place: Place, metadata: Metadata, aws: Aws, known: tuple[set[str], Facts], seconds: float
    ) -> None:
        """`known`: names of facts, and the facts, as they were found at the start. `seconds` bounds asking anew."""
        self.path = path
        self._place = place
        self._metadata = metadata
        self._aws = aws
        self._known = known
        self._seconds = seconds
        self._asking: threading.Thread | None = None

    def __call__(self) -> Config:
        """The whole configuration. Raises ConfigError, Unserved, FactsUnknown."""
        config = load(self.path).config
        missing = unserved(config, root=os.geteuid() == 0)
        if missing:
            raise Unserved(missing)
        return resolve(config, self._facts(config, needed(config)))

    def _facts(self, config: Config, names: set[str]) -> Facts:
        """Asked for anew; what is silent now is as it was, if it was ever heard. Raises FactsUnknown."""
        answer = self._ask(config, names)
        if isinstance(answer, Facts):
            self._known = (names, answer)
            return answer
        before, facts = self._known
        if names <= before:
            return facts
        raise FactsUnknown(sorted(names - before), str(answer or f"no answer within {self._seconds:g} s"))

    def _ask(self, config: Config, names: set[str]) -> Answer | None:
        """None where the answer takes too long: it is not waited for, and not asked for again until it is there."""
        if not any(name.startswith(_ASKED) for name in names):
            return gather(config, self._place, names, self._metadata, self._aws)
        if self._asking is not None and self._asking.is_alive():
            return None
        answers: SimpleQueue[Answer] = SimpleQueue()
        self._asking = threading.Thread(
            target=lambda: answers.put(self._gather(config, names)), name="reload-facts", daemon=True
        )
        self._asking.start()
        try:
            return answers.get(timeout=self._seconds)
        except Empty:
            return None

    def _gather(self, config: Config, names: set[str]) -> Answer:
        try:
            return gather(config, self._place, names, self._metadata, self._aws)
        except (MetadataError, Transient) as error:
            return error
