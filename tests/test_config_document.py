"""YAML as the configuration takes it: 1.2's types, lines for everything, and none of YAML's traps."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.config.document import MAX_DEPTH, parse
from agent.config.errors import ConfigError, MalformedConfig


def read(text):
    document = parse(text, "f.yaml")
    assert document.problems == ()
    return document.root.plain()


def problems(text):
    return [str(problem) for problem in parse(text, "f.yaml").problems]


def refusal(text):
    with pytest.raises(MalformedConfig) as caught:
        parse(text, "f.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    "word", ["on", "off", "yes", "no", "y", "tRUE", "2026-11-24", "12:30:45", "1_000", "0b11", "+0x1"]
)
def test_words_that_yaml_1_1_would_convert_are_text(word):
    assert read(f"a: {word}") == {"a": word}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("017", 17),
        ("0o17", 15),
        ("0x1F", 31),
        ("-3", -3),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("-.inf", float("-inf")),
        ("'true'", "true"),
        ('"5"', "5"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(written, value):
    got = read(f"a: {written}")["a"]
    assert got == value
    assert type(got) is type(value)


def test_keys_are_text_whatever_they_would_mean_as_values():
    assert read("on: 1\ntrue: 2\n8080: 3\nnull: 4") == {"on": 1, "true": 2, "8080": 3, "null": 4}


def test_an_empty_file_and_one_of_comments_say_nothing():
    assert parse("", "f").root is None
    assert parse("# nothing\n---\n", "f").root is None


def test_every_value_and_key_knows_its_line():
    root = parse("a: 1\nb:\n  - c: 2\n", "f.yaml").root
    assert (root.keys["b"].line, root.keys["b"].column) == (2, 1)
    inner = root.value["b"].value[0].value["c"]
    assert (inner.where.file, inner.where.line, inner.where.column) == ("f.yaml", 3, 8)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3", "f.yaml:3:1: the key 'a' stands twice in this map, first in line 1"),
        ("a: &x 1", "f.yaml:1:4: anchors (&x) are not used here"),
        ("a: *x", "f.yaml:1:4: aliases (*x) are not used here"),
        ("<<: {a: 1}", "f.yaml:1:1: merge keys (<<) are not used here"),
        (
            "a: !!python/object/apply:os.system [id]",
            "f.yaml:1:4: tags (tag:yaml.org,2002:python/object/apply:os.system)",
        ),
        ("? [a]\n: 1", "f.yaml:1:3: a key is text"),
        ("a: 1\n---\nb: 2", "f.yaml:2:1: a second document begins here"),
        ('a: "\\ud800"', "f.yaml:1:4: an escape stands for half a character"),
    ],
)
def test_what_is_left_out_of_yaml_is_refused_by_name(text, said):
    assert problems(text)[0].startswith(said)


def test_all_that_is_refused_is_named_at_once():
    assert len(problems("a: &x 1\nb: *x\nb: 2\n")) == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("exclude: *.log", "f.yaml:1:10: not YAML"),
        ("exclude: *.log", "needs quotes"),
        ("stream: {instance_id}/x", "needs quotes"),
        ("a: 1\nkey\nb: 2", "f.yaml:2:1: not YAML"),
        ("a:\n\tb: 1", "indent with spaces, not tabs"),
        ("a: b: c", "a colon and a space needs quotes"),
        ('match: "\\d"', "a backslash in double quotes is doubled"),
        ("a: 'never closed\n\n\n", "f.yaml:1:4: "),
        ("a: 'never closed\n\n\n", "not closed"),
        ("a: \x07", "f.yaml:1:4: the character '\\x07' is not allowed"),
        ('a: "\\UFFFFFFFF"', "an escape or directive is wrong"),
    ],
)
def test_what_is_no_yaml_says_where_and_what_to_write(text, said):
    assert said in refusal(text)


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_nesting_has_a_bound(opening):
    assert f"nested deeper than {MAX_DEPTH}" in refusal(opening * 20_000)


def test_a_number_too_long_to_convert_is_text():
    digits = "9" * 5000
    assert read(f"a: {digits}") == {"a": digits}


YAMLISH = st.text(alphabet="abx01 :-[]{},&*!|>'\"%@`#?~\n\t\\<.$éU", max_size=60)


@settings(max_examples=300)
@given(YAMLISH)
@example("%YAML " + "1" * 5000 + ".1\n---\na: 1")
@example("- &x\n  - *x\n  - ? *x\n")
@example("? ? ? a")
@example("!<tag:x> {a: !!map [}")
def test_no_text_raises_anything_but_a_config_error(text):
    try:
        document = parse(text, "f.yaml")
    except ConfigError:
        return
    assert document.root is None or document.root.where.line >= 1
