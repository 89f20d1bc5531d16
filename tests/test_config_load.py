"""From files to a checked configuration: every problem at once, each at its line, and nothing but ConfigError."""

import os
import socket

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.config.errors import InvalidConfig, MalformedConfig, UnreadableConfig
from agent.config.load import ConfigError, load
from agent.config.markers import words
from agent.config.source import MAX_BYTES


@pytest.fixture
def write(tmp_path):
    """Writes the file and, by name, those of conf.d; gives the file's path."""

    def write_all(text, **fragments):
        path = tmp_path / "outlive.yaml"
        path.write_text(text)
        path.chmod(0o640)
        for name, content in fragments.items():
            fragment = tmp_path / "conf.d" / f"{name}.yaml"
            fragment.parent.mkdir(exist_ok=True)
            fragment.write_text(content)
            fragment.chmod(0o640)
        return str(path)

    return write_all


@pytest.fixture
def config(write):
    return lambda text, **fragments: load(write(text, **fragments)).config


@pytest.fixture
def problems(write, tmp_path):
    """The problems of a configuration, as they are printed, without the folder."""

    def of(text, **fragments):
        with pytest.raises(ConfigError) as caught:
            load(write(text, **fragments))
        return [str(problem).removeprefix(f"{tmp_path}/") for problem in caught.value.problems]

    return of


@pytest.fixture
def notes(write, tmp_path):
    def of(text, **fragments):
        return [str(note).removeprefix(f"{tmp_path}/") for note in load(write(text, **fragments)).notes]

    return of


class TestOneFile:
    def test_an_empty_file_switches_nothing_on(self, config):
        nothing = config("")
        assert nothing == config("# only comments\n")
        assert nothing.logs is None
        assert nothing.drain is None
        assert nothing.alarms is None
        assert nothing.agent.state_dir == "/var/lib/outlive"

    def test_an_empty_section_is_off_and_noted(self, write):
        loaded = load(write("metrics:\n  statsd:\nlogs:\nagent:\n"))
        assert loaded.config.logs is None
        assert [(note.line, note.key) for note in loaded.notes] == [(2, "metrics.statsd"), (3, "logs")]
        assert loaded.config.metrics is not None

    def test_an_unknown_key_names_its_nearest_neighbour(self, problems):
        assert problems("aws:\n  regoin: eu-west-1\n") == [
            "outlive.yaml:2:3: aws.regoin: unknown key; did you mean region?"
        ]

    def test_an_unknown_key_without_neighbours_names_all_that_are_known(self, problems):
        assert problems("aws: {xyz: 1}") == [
            "outlive.yaml:1:7: aws.xyz: unknown key; known are region, role_arn, external_id"
        ]

    def test_an_unknown_key_is_compared_with_its_own_map(self, problems):
        (said,) = problems("logs:\n  files:\n    - path: /a\n      group: g\n      multiline: {strat: x}\n")
        assert said == "outlive.yaml:5:19: logs.files[0].multiline.strat: unknown key; did you mean start?"

    def test_a_key_of_the_user_s_own_is_shown_where_it_stands(self, problems):
        (said,) = problems("logs: {files: [{path: /a, group: g, tags: {a: b, 'aws:c': d}}]}")
        assert said.startswith("outlive.yaml:1:50: logs.files[0].tags.aws:c: 'aws:c' is not a tag key")

    def test_a_word_in_the_wrong_case_is_recognised(self, problems):
        (said,) = problems("logs: {files: [{path: /a, group: g, class: standard}]}")
        assert said.endswith("'standard' is not one of STANDARD, INFREQUENT_ACCESS; did you mean STANDARD?")

    def test_python_names_of_keys_are_unknown(self, problems):
        (said,) = problems("logs: {files: [{path: /a, group: g, class_: STANDARD}]}")
        assert "logs.files[0].class_: unknown key; did you mean class?" in said

    def test_a_missing_key_is_shown_at_its_map(self, problems):
        assert problems("logs:\n  files:\n    - exclude: []\n      path: /a\n") == [
            "outlive.yaml:3:7: logs.files[0].group: is missing here, and required"
        ]

    def test_all_problems_are_found_in_one_run_in_the_order_of_lines(self, problems):
        text = "drain:\n  timout: 5m\nagent:\n  log_level: loud\nlogs: {files: [{path: rel, group: g}]}\n"
        said = problems(text)
        assert [line.split(": ")[0] for line in said] == [
            "outlive.yaml:2:3",
            "outlive.yaml:4:14",
            "outlive.yaml:5:23",
        ]

    def test_a_wrong_type_says_what_was_expected_and_what_came(self, problems):
        text = "logs:\n  max_open_files: '12'\n  files: {path: /a}\nmetrics: 5\n"
        assert problems(text) == [
            "outlive.yaml:2:19: logs.max_open_files: expected a whole number, got '12'",
            "outlive.yaml:3:10: logs.files: expected a list, got a map; begin each of its entries with -",
            "outlive.yaml:4:10: metrics: expected a map, `key: value`, got 5",
        ]

    @pytest.mark.parametrize("word", ["yes", "on", "off", "'true'", "1"])
    def test_a_boolean_is_true_or_false_and_nothing_else(self, problems, word):
        (said,) = problems(f"drain: {{strict: {word}}}")
        assert "drain.strict: expected true or false" in said

    def test_a_number_where_text_belongs_asks_for_quotes(self, problems):
        (said,) = problems("uploads: {directories: [{path: /a, bucket: abc, expected_bucket_owner: 123456789012}]}")
        assert said.endswith("expected text, got 123456789012; put it in quotes")

    def test_a_placeholder_without_quotes_asks_for_them(self, problems):
        (said,) = problems("logs: {journald: [{group: g, stream: {instance_id}}]}")
        assert said.endswith('expected text, got a map; text that begins with { needs quotes: "{instance_id}"')

    def test_an_unknown_placeholder_names_its_nearest_neighbour(self, problems):
        (said,) = problems('logs: {journald: [{group: g, stream: "{instanceid}"}]}')
        assert said.endswith("stream: unknown placeholder {instanceid}; did you mean instance_id?")

    def test_what_yaml_refuses_is_found_together_with_wrong_values(self, problems):
        said = problems("agent:\n  log_level: &l loud\naws: {region: moon}\naws: {}\n")
        assert [line.split(": ")[0] for line in said] == [
            "outlive.yaml:2:14",
            "outlive.yaml:3:15",
            "outlive.yaml:4:1",
        ]

    def test_a_file_that_is_no_map_is_refused(self, problems):
        assert problems("- logs\n") == ["outlive.yaml:1:1: the file must be a map of sections, as `logs:`"]

    def test_keys_from_a_file_can_not_command_the_terminal(self, problems):
        (said,) = problems('"\\e[2J\\u202e": 1')
        assert "\x1b" not in said
        assert "\\x1b[2J\\u202e" in said

    def test_a_secret_is_never_repeated(self, problems):
        said = problems('sessions: [{path: /a, ttl: 1h, target: "redis://:hunter2@"}]')
        assert "sessions[0].target: the value is not a session store" in said[0]
        assert not any("hunter2" in line for line in said)


class TestFiles:
    def refusal(self, path, kind=UnreadableConfig):
        with pytest.raises(kind) as caught:
            load(path)
        return str(caught.value)

    def test_a_missing_file_says_what_to_do(self, tmp_path):
        path = str(tmp_path / "none.yaml")
        assert self.refusal(path) == f"{path}: there is no such file; write one, or name another with -c"

    def test_a_directory_is_no_configuration(self, tmp_path):
        assert self.refusal(str(tmp_path)).endswith("is a directory; name a YAML file")

    def test_a_fifo_is_refused_without_waiting_for_a_writer(self, tmp_path):
        os.mkfifo(tmp_path / "fifo")
        assert self.refusal(str(tmp_path / "fifo")).endswith("is no regular file; name a YAML file")

    def test_a_socket_is_refused(self, tmp_path):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "socket"))
            assert "can't be opened" in self.refusal(str(tmp_path / "socket"))

    def test_a_path_that_can_not_be_is_refused(self):
        assert "can't be opened" in self.refusal("/etc/\0.yaml")

    def test_a_file_that_is_too_large_is_refused(self, write):
        assert "is larger than 256 KiB" in self.refusal(write("#" * (MAX_BYTES + 1)))

    def test_a_file_of_the_largest_size_is_read(self, write):
        assert load(write("#" * MAX_BYTES)).config.logs is None

    def test_text_that_is_not_utf_8_is_shown_at_its_byte(self, tmp_path):
        path = tmp_path / "latin.yaml"
        path.write_bytes("agent:\n  log_level: é".encode("latin-1"))
        assert self.refusal(str(path)) == f"{path}:2:14: is not UTF-8 text from here on; save it as UTF-8"

    def test_a_byte_order_mark_is_no_text(self, tmp_path):
        path = tmp_path / "bom.yaml"
        path.write_bytes(b"\xef\xbb\xbfagent: {log_level: debug}")
        assert load(str(path)).config.agent.log_level == "debug"

    @pytest.mark.parametrize(("mode", "who"), [(0o664, "its group"), (0o666, "everyone")])
    def test_a_file_that_others_may_write_is_noted(self, write, mode, who):
        path = write("agent: {}")
        os.chmod(path, mode)
        (note,) = load(path).notes
        assert str(note).startswith(f"{path}: {who} may write this file")

    def test_a_file_that_only_its_owner_may_write_is_not(self, notes):
        assert notes("agent: {}") == []


class TestSeveralFiles:
    def test_files_of_conf_d_are_read_by_name(self, write, tmp_path):
        path = write("agent: {}", **{name: f"agent: {{instance_id: {name}}}" for name in "cgafebd"})
        loaded = load(path)
        assert loaded.config.agent.instance_id == "g"
        assert loaded.sources == (path, *(f"{tmp_path}/conf.d/{name}.yaml" for name in "abcdefg"))

    def test_hidden_files_and_those_of_other_kinds_are_not(self, write, tmp_path):
        path = write("", a="agent: {log_level: error}")
        for name in (".a.yaml", "a.yaml~", "a.yml", "a.yaml.rpmsave"):
            (tmp_path / "conf.d" / name).write_text("nonsense: 1")
        assert load(path).config.agent.log_level == "error"

    def test_maps_merge_and_lists_append(self, config):
        base = "logs: {flush_interval: 1s, files: [{path: /a, group: a}]}"
        merged = config(base, more="logs: {compression: none, files: [{path: /b, group: b}]}\nmetrics: {}")
        assert [file.path for file in merged.logs.files] == [("/a",), ("/b",)]
        assert (merged.logs.flush_interval, merged.logs.compression) == (1.0, "none")
        assert merged.metrics is not None

    def test_of_a_scalar_set_twice_the_last_wins_and_is_noted(self, write, tmp_path):
        loaded = load(write("agent:\n  log_level: debug\n", late="agent: {log_level: error}"))
        assert loaded.config.agent.log_level == "error"
        (note,) = loaded.notes
        place = f"{tmp_path}/outlive.yaml:2"
        assert str(note) == (
            f"{tmp_path}/conf.d/late.yaml:1:20: agent.log_level: is set in {place} too; the value from here counts"
        )

    def test_null_takes_a_scalar_back_and_is_noted(self, notes, config):
        texts = {"text": "aws: {region: eu-west-1}", "late": "aws: {region: null}"}
        assert config(**texts).aws.region is None
        assert "conf.d/late.yaml:1:15: aws.region: takes back the value of" in notes(**texts)[0]

    def test_a_section_whose_entries_are_commented_out_takes_nothing_away(self, config, notes):
        texts = {"text": "logs: {files: [{path: /a, group: a}]}", "late": "logs:\n# files:\n"}
        assert len(config(**texts).logs.files) == 1
        assert "conf.d/late.yaml:1:6: logs: is empty here, which changes nothing" in notes(**texts)[0]

    def test_a_map_and_a_list_do_not_merge(self, problems):
        (said,) = problems("logs: {files: [{path: /a, group: a}]}", late="logs:\n  files: {path: /b}\n")
        assert said.startswith("conf.d/late.yaml:2:10: logs.files: a map here, and a list in ")

    def test_an_error_names_its_own_file_and_the_merged_list_s_index(self, problems):
        assert problems("logs: {files: [{path: /a, group: a}]}", b="logs:\n  files:\n  - path: /b\n") == [
            "conf.d/b.yaml:3:5: logs.files[1].group: is missing here, and required"
        ]

    def test_a_key_known_to_no_file_is_shown_where_it_stands(self, problems):
        assert problems("aws: {region: eu-west-1}", b="aws:\n  regio: x\n") == [
            "conf.d/b.yaml:2:3: aws.regio: unknown key; did you mean region?"
        ]

    def test_syntax_errors_of_all_files_are_shown_together(self, problems):
        said = problems("a: b: c", x="a: *", y="agent: {}")
        assert [line.split(":")[0] for line in said] == ["outlive.yaml", "conf.d/x.yaml"]

    def test_conf_d_may_be_a_file_of_another_kind(self, config, tmp_path):
        (tmp_path / "conf.d").write_text("not a directory")
        assert config("agent: {log_level: debug}").agent.log_level == "debug"

    def test_a_directory_named_like_a_fragment_is_refused(self, problems, tmp_path):
        (tmp_path / "conf.d" / "x.yaml").mkdir(parents=True)
        assert problems("") == ["conf.d/x.yaml: is a directory; name a YAML file"]


class TestKindsOfErrors:
    def test_each_stage_has_its_own_error_and_one_exit_code(self, write, tmp_path):
        for text, kind in (("a: b: c", MalformedConfig), ("a: 1", InvalidConfig)):
            with pytest.raises(kind) as caught:
                load(write(text))
            assert caught.value.exit_code == 2
        with pytest.raises(UnreadableConfig):
            load(str(tmp_path / "absent"))


class TestNotes:
    def test_a_drain_without_a_receipt_bucket_is_noted(self, notes):
        assert notes("drain:\n  receipt: {bucket: null}\n")[0].startswith(
            "outlive.yaml:2:21: drain.receipt.bucket: is null"
        )
        assert notes("drain: {}")[0].startswith("outlive.yaml:1:8: drain.receipt.bucket: is null")
        assert notes("drain: {receipt: {bucket: receipts}}") == []

    def test_a_statsd_server_for_the_network_is_noted(self, notes):
        assert "metrics.statsd.address: whoever reaches" in notes("metrics: {statsd: {address: '0.0.0.0:8125'}}")[0]
        assert notes("metrics: {statsd: {}}") == []

    def test_alarms_that_nothing_deletes_are_noted(self, notes):
        alarm = "alarms: [{name: outlive/x, metric: x, threshold: '> 1', period: 60s}]\nmetrics: {}\n"
        assert notes(alarm)[0].startswith("outlive.yaml:1:9: alarms: nothing deletes these alarms")
        assert notes(alarm + "drain: {receipt: {bucket: receipts}}") == []


SECTIONS = st.sampled_from(["agent", "aws", "logs", "metrics", "alarms", "uploads", "snapshots", "drain", "x"])
KEYS = st.sampled_from(
    words(
        "files path group stream multiline start match metrics os cpu statsd address socket tags name period for "
        "timestamp format keep class before run receipt bucket triggers directories content_type cron key"
    )
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from(["/a", "5s", "{instance_id}", "{", "[", "*", "java", "%Y", "> 1", "1 of 2", "a.b:1", "arn:aws:"]),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8),
)
TREES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)


class TestArbitraryInput:
    @settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @given(data=st.binary(max_size=80))
    def test_no_bytes_raise_anything_but_a_config_error(self, data, tmp_path):
        path = tmp_path / "any.yaml"
        path.write_bytes(data)
        self.load_or_refuse(str(path))

    @settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @given(tree=st.dictionaries(SECTIONS, TREES, max_size=4))
    def test_no_tree_of_known_keys_raises_anything_but_a_config_error(self, tree, tmp_path):
        path = tmp_path / "tree.yaml"
        path.write_text(flow(tree))
        self.load_or_refuse(str(path))

    def load_or_refuse(self, path):
        try:
            found = load(path).notes
        except ConfigError as error:
            found = error.problems
        assert all(each.file == path and each.message for each in found)


def flow(value):
    """A tree in YAML's flow style."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return (
        {None: "null", True: "true", False: "false"}.get(value)
        if value is None or isinstance(value, bool)
        else repr(value)
    )
