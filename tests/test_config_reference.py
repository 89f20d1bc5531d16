"""The reference of the configuration is the schema's, and whole."""

from pathlib import Path

import pytest

from agent.config.grammar import MEANINGS
from agent.config.reference import reference
from agent.config.schema import Config
from agent.config.walk import key_of, section_of

COMMITTED = Path(__file__).parent.parent / "docs" / "configuration.md"


def sections(model=Config):
    yield model
    for field in model.model_fields.values():
        inner = section_of(field)
        if inner is not None:
            yield from sections(inner)


SECTIONS = sorted(set(sections()), key=lambda section: section.__name__)


def test_the_committed_reference_is_up_to_date():
    assert COMMITTED.read_text() == reference(), "run: python -m agent.config.reference > docs/configuration.md"


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_is_described(section):
    undescribed = [
        name for name, field in section.model_fields.items() if not (field.description or "").endswith((".", ";"))
    ]
    assert [name for name in undescribed if not section.model_fields[name].description] == []
    assert section.__doc__


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_stands_in_the_reference(section):
    text = reference()
    assert all(
        f"| `{key_of(name, field)}` |" in text
        for name, field in section.model_fields.items()
        if section is not Config
    )


def test_every_placeholder_stands_in_the_reference():
    text = reference()
    assert all(f"`{{{name}" in text for name in MEANINGS)


@pytest.mark.parametrize(
    "row",
    [
        "| `flush_interval` | duration, 100ms to 1h | `5s` |",
        "| `rotated_linger` | duration | `60s` |",
        "| `max_deleted_bytes` | size | `1GiB` |",
        "| `group` | log group `{file}` | **required** |",
        '| `stream` | log stream `{file}` | `"{instance_id}/{file_name}"` |',
        '| `dimensions` | map: dimension name to metric dimension `{}` | `{InstanceId: "{instance_id}"}` |',
        '| `include` | list: pattern | `["**"]` |',
        "| `for` | M of N | `3 of 3` |",
        "| `max_deletes` | percentage | `10%` |",
        '| `socket_mode` | octal mode in quotes, as "0640" | `"0666"` |',
        "| `address` | address:port | `127.0.0.1:8125` |",
        "| `multiline` | `indented`, `python`, `java`, or map, see below | `null` |",
    ],
)
def test_types_and_defaults_are_written_as_a_user_would(row):
    assert row in reference()
