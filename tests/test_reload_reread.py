"""The configuration read again: checked as at the start, and filled in with what is known of the instance by now."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.aws.metadata import MetadataUnavailable
from agent.config.errors import ConfigError, MissingPlaceholders
from agent.config.placeholders import Facts
from agent.reload.errors import FactsUnknown, Unserved
from agent.reload.reread import Reread
from agent.surroundings import Place

NOTHING: tuple[set[str], Facts] = (set(), Facts())
PLACE = Place("i-1", "eu-west-1", metadata=True, identity={"accountId": "123456789012"})
TAGGED = 'logs: {files: [{path: /a.log, group: "/g/{tag:Team}"}]}\n'
PLAIN = 'logs: {files: [{path: /a.log, group: "/g/{instance_id}"}]}\n'


class Tags:
    """Instance metadata: the tag's value, an error, or silence until it is ended."""

    def __init__(self) -> None:
        self.value: str | Exception = "shop"
        self.silent = False
        self.asked = 0
        self.over = threading.Event()

    def tag(self, name: str) -> str | None:
        self.asked += 1
        if self.silent:
            self.over.wait(10.0)
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


@pytest.fixture
def tags() -> Iterator[Tags]:
    tags = Tags()
    yield tags
    tags.over.set()


@pytest.fixture
def make(tmp_path: Path, tags: Any) -> Callable[..., Reread]:
    def make(text: str, known: Any = NOTHING, aws: Any = None) -> Reread:
        (tmp_path / "outlive.yaml").write_text(text)
        return Reread(str(tmp_path / "outlive.yaml"), PLACE, tags, aws, known, 0.2)

    return make


def group(reread: Reread) -> str:
    logs = reread().logs
    assert logs is not None
    return logs.files[0].group


def test_it_reads_what_the_file_says_now(make: Any, tmp_path: Path) -> None:
    reread = make(PLAIN)
    assert group(reread) == "/g/i-1"
    (tmp_path / "outlive.yaml").write_text(PLAIN.replace("/g/", "/h/"))
    assert group(reread) == "/h/i-1"


def test_a_wrong_file_and_what_can_not_be_served_are_told_apart(make: Any) -> None:
    with pytest.raises(ConfigError) as wrong:
        make("logs: {fils: []}\nmetrics: {interval: soon}\n")()
    assert len(wrong.value.problems) == 2
    with pytest.raises(Unserved) as unserved:
        make("drain: {triggers: {rebalance: true}}\n")()
    assert unserved.value.problems[0].startswith("drain.triggers.rebalance")


def test_what_the_instance_does_not_tell_is_not_asked_for(make: Any, tags: Tags) -> None:
    make(PLAIN)()
    assert tags.asked == 0


def test_a_tag_that_has_another_value_by_now_has_it_in_the_configuration(make: Any, tags: Tags) -> None:
    reread = make(TAGGED, ({"tag:Team"}, Facts(tags={"Team": "old"})))
    assert group(reread) == "/g/shop"


def test_a_placeholder_without_a_value_is_an_error_that_names_it(make: Any, tags: Tags) -> None:
    tags.value = ""
    with pytest.raises(MissingPlaceholders, match="tag:Team"):
        make(TAGGED)()


def test_what_is_silent_now_is_as_it_was(make: Any, tags: Tags) -> None:
    reread = make(TAGGED)
    assert group(reread) == "/g/shop"
    tags.value = MetadataUnavailable("no route")
    assert group(reread) == "/g/shop"


def test_what_was_never_heard_refuses_and_names_it(make: Any, tags: Tags) -> None:
    tags.value = MetadataUnavailable("no route")
    with pytest.raises(FactsUnknown, match=r"\{tag:Team\}: no route"):
        make(TAGGED, ({"region"}, Facts(region="eu-west-1")))()


def test_a_question_that_hangs_is_not_waited_for_and_not_asked_twice(make: Any, tags: Tags) -> None:
    tags.silent = True
    reread = make(TAGGED)
    for _ in range(2):
        with pytest.raises(FactsUnknown, match="no answer within"):
            reread()
    assert tags.asked == 1
    tags.over.set()
    tags.silent = False
    reread._asking.join(10.0)
    assert group(reread) == "/g/shop"
