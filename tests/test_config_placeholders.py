"""Placeholders: checked when loaded, replaced with what is true of the instance, and always fit for their place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config.document import parse as parse_yaml
from agent.config.errors import ConfigError
from agent.config.grammar import MEANINGS, Placeholder, parse
from agent.config.placeholders import Facts, MissingPlaceholders, Template, UnfitPlaceholders, needed, resolve
from agent.config.places import Place, Placed, Uses
from agent.config.schema import Config

FACTS = Facts(
    instance_id="i-0abc",
    hostname="ip-10-0-0-7",
    private_ip="10.0.0.7",
    region="eu-west-1",
    account_id="123456789012",
    availability_zone="eu-west-1b",
    instance_type="m7g.large",
    image_id="ami-1",
    auto_scaling_group="shop",
    tags={"Name": "web", "aws:autoscaling:groupName": "shop", "Empty": ""},
    env={"STAGE": "prod"},
)
NOON = 1_795_521_600.0  # 2026-11-24T12:00:00Z


def config(text):
    return Config.model_validate(parse_yaml(text, "f.yaml").root.plain())


def journal(stream):
    return config(f"logs: {{journald: [{{group: /shop, stream: '{stream}'}}]}}")


def stream_of(text, facts=FACTS):
    return resolve(journal(text), facts).logs.journald[0].stream


class TestGrammar:
    def test_a_text_is_literals_and_placeholders(self):
        assert parse("a/{tag:aws:x|b c}{region}") == (
            "a/",
            Placeholder("tag", "aws:x", "b c"),
            Placeholder("region"),
        )

    @pytest.mark.parametrize("name", sorted(MEANINGS))
    def test_every_placeholder_is_written_as_it_was_read(self, name):
        text = {"tag": "{tag:Name}", "env": "{env:A}", "date": "{date:%Y}"}.get(name, f"{{{name}}}")
        assert str(parse(text)[0]) == text

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("{instnce_id}", "unknown placeholder {instnce_id}; did you mean instance_id?"),
            ("{}", "unknown placeholder {}; known are instance_id"),
            ("{Region}", "unknown placeholder {Region}; did you mean region?"),
            ("a{", "unbalanced {"),
            ("a}b", "unbalanced }"),
            ("{a{region}}", "unbalanced {"),
            ("{tag}", "does not say which; write it as in {tag:Name}"),
            ("{tag:|x}", "does not say which; write it as in {tag:Name}"),
            ("{date}", "does not say which; write it as in {date:%Y-%m-%d}"),
            ("{region:}", "has nothing after its colon; write {region}"),
            ("{region:x}", "takes nothing after a colon; write {region}"),
            ("{env:AWS_SESSION_TOKEN}", "AWS_* may hold secrets"),
            ("{env:aws_secret|x}", "AWS_* may hold secrets"),
            ("{env:A-B}", "is not the name of an environment variable"),
            ("{date:today}", "is not a date format"),
            ("{date:%}", "is not a date format"),
            ("{date:%Q}", "%Q is not a date format"),
            ("{date:%%}", "is not a date format"),
            ("{date:%Y|x}", "always has a value"),
            ("{file_name|x}", "always has a value"),
        ],
    )
    def test_what_is_no_placeholder_says_what_to_write(self, text, said):
        with pytest.raises(ValueError) as caught:  # noqa: PT011  # what it says is compared below
            parse(text)
        assert said in str(caught.value)

    @given(st.text("ab{}:|%Y_regiontsdfl", max_size=40))
    def test_any_text_is_read_back_or_refused(self, text):
        try:
            parts = parse(text)
        except ValueError:
            assert "{" in text or "}" in text
            return
        assert "".join(map(str, parts)) == text


class TestUses:
    @pytest.mark.parametrize("uses", list(Uses))
    def test_a_field_takes_the_placeholders_of_its_kind_and_no_others(self, uses):
        placed = Placed(Place.LOG_STREAM, uses)
        texts = {"tag": "{tag:Name}", "env": "{env:A}", "date": "{date:%Y}"}
        for name in MEANINGS:
            text = f"x{texts.get(name, f'{{{name}}}')}"
            if name in uses.value:
                assert placed.check(text) == text
            else:
                with pytest.raises(ValueError, match=r"no single file|when the agent starts|agent themselves"):
                    placed.check(text)

    def test_a_fallback_is_held_to_the_place_s_rule_like_any_text_of_the_user(self):
        with pytest.raises(ValueError, match="':' is not allowed in a log stream"):
            Placed(Place.LOG_STREAM).check("x{tag:Name|a:b}")

    def test_a_fallback_may_not_leave_a_name_empty(self):
        with pytest.raises(ValueError, match="may not be empty"):
            Placed(Place.LOG_STREAM).check("{tag:Name|}")


class TestResolve:
    def test_facts_take_the_places_of_placeholders(self):
        text = "{instance_id} {hostname} {private_ip} {region} {account_id} {availability_zone} {instance_type}"
        assert stream_of(text) == "i-0abc ip-10-0-0-7 10.0.0.7 eu-west-1 123456789012 eu-west-1b m7g.large"
        text = "{image_id} {auto_scaling_group} {tag:Name} {tag:aws:autoscaling:groupName} {env:STAGE}"
        assert stream_of(text) == "ami-1 shop web shop prod"
        assert stream_of("{state_dir} {run_dir}") == "/var/lib/outlive /run/outlive"

    def test_every_kind_of_place_is_resolved(self):
        text = """
            agent: {state_dir: "/data/{instance_id}", run_dir: "/run/{tag:Name}"}
            logs: {files: [{path: "/{a,b}", group: "{region}", tags: {t: "{region}"}}]}
            metrics:
              dimensions: {d: "{region}"}
              statsd: {prefix: "{region}.", socket: "{run_dir}/s", dimensions: {d: "{region}"}}
              emf: {groups: ["{region}"]}
            alarms:
              - {name: "outlive/{region}", metric: m, dimensions: {d: "{region}"}, threshold: "> 1", period: 60s,
                 notify: ["arn:aws:sns:{region}:{account_id}:x"]}
            uploads:
              directories:
              - {path: /a, bucket: abc, prefix: "{region}", tags: {t: "{region}"}, metadata: {m: "{region}"}}
            snapshots: [{name: s, sqlite: /s, bucket: abc, key: "{region}"}]
            restore: [{path: /r, bucket: abc, prefix: "{region}"}]
            drain:
              receipt:
                bucket: "abc-{region}"
                prefix: "{region}"
                group: "{region}"
                notify: "arn:aws:sns:{region}:{account_id}:x"
        """
        resolved = resolve(config(text), FACTS)
        assert needed(resolved) == set()
        assert resolved.agent.state_dir == "/data/i-0abc"
        assert resolved.metrics.statsd.socket == "/run/web/s"
        assert resolved.logs.files[0].path == ("/{a,b}",)
        assert resolved.logs.files[0].tags == {"t": "eu-west-1"}
        assert resolved.alarms[0].notify == ("arn:aws:sns:eu-west-1:123456789012:x",)
        assert resolved.uploads.directories[0].metadata == {"m": "eu-west-1"}
        assert resolved.drain.receipt.bucket == "abc-eu-west-1"

    def test_what_holds_no_placeholder_stays_the_same_object(self):
        before = config("logs: {files: [{path: /a, group: g, stream: s}]}\ndrain: {}")
        assert resolve(before, Facts()) is before

    def test_date_and_file_stay_for_later(self):
        before = config("logs: {files: [{path: /a, group: '{region}-{date:%Y}', stream: '{parent}/{file_name}'}]}")
        (file,) = resolve(before, FACTS).logs.files
        assert (file.group, file.stream) == ("eu-west-1-{date:%Y}", "{parent}/{file_name}")

    def test_a_fallback_stands_in_for_what_is_absent_or_empty(self):
        assert stream_of("{tag:Role|none}/{tag:Empty|-}/{env:NOPE|x}{image_id|y}") == "none/-/xami-1"
        assert stream_of("{auto_scaling_group|-}", Facts()) == "-"

    def test_a_value_is_never_read_as_a_placeholder(self):
        assert stream_of("{tag:Name}", Facts(tags={"Name": "{file_name}"})) == "_file_name_"

    def test_all_that_has_no_value_is_said_at_once_with_key_and_remedy(self):
        before = config("""
            logs: {journald: [{group: "{tag:Role}", stream: "{env:NOPE}"}]}
            drain: {receipt: {prefix: "{auto_scaling_group}/{region}"}}
        """)
        with pytest.raises(MissingPlaceholders) as caught:
            resolve(before, Facts(region="eu-west-1"))
        said = [str(problem) for problem in caught.value.problems]
        assert [line.split(": ")[0] for line in said] == [
            "logs.journald[0].group",
            "logs.journald[0].stream",
            "drain.receipt.prefix",
        ]
        assert "{tag:Role} has no value here: the instance has no such tag" in said[0]
        assert "give a fallback, {env:NOPE|...}" in said[1]
        assert "set drain.auto_scaling_group" in said[2]
        assert caught.value.exit_code == 2
        assert isinstance(caught.value, ConfigError)

    @pytest.mark.parametrize(
        ("text", "facts", "said"),
        [
            (
                "drain: {receipt: {bucket: 'x-{tag:Name}'}}",
                Facts(tags={"Name": "A"}),
                "is not allowed in an S3 bucket",
            ),
            ("drain: {receipt: {group: '{tag:Name}/x'}}", Facts(tags={"Name": "aws"}), "begin with aws/"),
            ("metrics: {dimensions: {d: '{tag:Name}'}}", Facts("i-1", tags={"Name": " "}), "may not be blank"),
            ("metrics: {statsd: {socket: '{run_dir}/s'}}", Facts("i-1", run_dir="/r" * 60), "at most 107 bytes"),
        ],
    )
    def test_a_name_that_is_none_with_its_values_is_an_error(self, text, facts, said):
        with pytest.raises(UnfitPlaceholders) as caught:
            resolve(config(text), facts)
        assert said in str(caught.value)

    def test_the_directories_of_the_agent_can_be_facts(self):
        facts = Facts(run_dir="/elsewhere", state_dir="/there")
        assert stream_of("{run_dir}{state_dir}", facts) == "/elsewhere/there"


class TestNeeded:
    def test_only_what_the_configuration_uses_is_asked_for(self):
        used = config("""
            logs: {files: [{path: /a, group: "{tag:Role|x}", stream: "{file_name}{date:%Y}{hostname}"}]}
            drain: {receipt: {prefix: "{env:STAGE}"}}
        """)
        assert needed(used) == {"tag:Role", "hostname", "env:STAGE"}
        assert needed(config("drain: {}")) == set()


class TestFit:
    @pytest.mark.parametrize(
        ("place", "value", "fitted"),
        [
            (Place.LOG_GROUP, "a b:c*é#/.", "a_b_c__#/."),
            (Place.LOG_STREAM, "a:b*c d\né", "a_b_c d_é"),
            (Place.OBJECT_KEY, "a/b c\x00é", "a/b c_é"),
            (Place.OBJECT_KEY, "..", "__"),
            (Place.KEY_PREFIX, "team/web", "team/web"),
            (Place.DIMENSION, "é:\t", "_:_"),
            (Place.TAG, "straße 1;x", "straße 1_x"),
            (Place.OBJECT_METADATA, "a\r\nb: é", "a__b: _"),
            (Place.ALARM, "a\x1bb", "a_b"),
            (Place.BUCKET, "A b", "__b"),
            (Place.TOPIC, "a b/c", "a_b_c"),
            (Place.OWN_PATH, "../../etc", ".._.._etc"),
            (Place.OWN_SOCKET, "..", "__"),
            (Place.METRIC_PREFIX, "à.", "_."),
            (Place.LOG_STREAM, "bad\udcff{x}", "bad__x_"),
        ],
    )
    def test_what_a_place_does_not_allow_becomes_an_underscore(self, place, value, fitted):
        assert place.fit(value) == fitted

    def test_the_agent_s_own_directories_keep_their_slashes_in_paths(self):
        assert Place.OWN_PATH.fit("/run/outlive", "run_dir") == "/run/outlive"

    @given(st.sampled_from(list(Place)), st.text(st.characters(), max_size=30))
    def test_a_fitted_value_fits(self, place, value):
        fitted = place.fit(value)
        assert place.fit(fitted) == fitted
        assert len(fitted) == len(value)
        assert "is not allowed" not in (place.complaint(fitted) or "") or place is Place.BUCKET


class TestTemplate:
    def render(self, text, place=Place.LOG_STREAM, file="/var/log/nginx/access.log"):
        return Template(text, place).render(file=file, now=NOON)

    def test_the_names_of_a_file_take_their_places(self):
        assert self.render("{file_name} {file_stem} {parent}") == "access.log access nginx"
        assert self.render("{file_path}") == "_var_log_nginx_access.log"

    def test_the_date_is_that_of_the_moment_in_utc(self):
        assert self.render("{date:%Y-%m-%d}/{date:%H}h") == "2026-11-24/12h"

    def test_values_are_fitted_to_the_place(self):
        assert self.render("{date:%H:%M}") == "12_00"
        assert self.render("{file_name}", file="/a/b:c*d") == "b_c_d"
        assert self.render("{file_name}", Place.LOG_GROUP, "/a/caf\udce9 {x}") == "caf___x_"

    def test_a_text_without_placeholders_needs_neither_file_nor_time(self):
        template = Template("fixed", Place.LOG_STREAM)
        assert not template.needs_file
        assert not template.needs_time
        assert template.render() == "fixed"

    def test_a_file_s_name_needs_a_file(self):
        template = Template("{parent}", Place.LOG_STREAM)
        assert template.needs_file
        with pytest.raises(ValueError, match="needs a file"):
            template.render(now=NOON)

    def test_what_is_not_resolved_is_no_template(self):
        with pytest.raises(ValueError, match="is not resolved"):
            Template("{instance_id}", Place.LOG_STREAM)

    @pytest.mark.parametrize("place", [Place.LOG_STREAM, Place.OBJECT_METADATA, Place.KEY_PREFIX])
    def test_what_is_too_long_is_shortened_and_stays_distinct(self, place):
        long = "/" + "é" * 3000
        one, other = (self.render("{file_name}", place, long + end) for end in "ab")
        assert one != other
        assert self.render("{file_name}", place, long + "a") == one
        assert place.complaint(one) is None

    @given(st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=600))
    def test_whatever_a_file_is_called_its_stream_is_a_valid_name(self, name):
        rendered = self.render("x{file_name}-{file_stem}-{file_path}-{parent}", file=f"/srv/{name}")
        assert Place.LOG_STREAM.complaint(rendered) is None
        rendered.encode()
