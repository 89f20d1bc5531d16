"""The schema against its contract: every default, every constraint, and a file that uses every key."""

import importlib.util
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from agent.config.base import Section
from agent.config.document import parse
from agent.config.errors import InvalidConfig
from agent.config.load import load
from agent.config.schema import Config
from agent.config.sections.alarms import Datapoints, Threshold
from agent.config.sections.collectors import Os
from agent.config.sections.drain import Receipt, Triggers
from agent.config.sections.metrics import Spool
from agent.config.values import Address
from agent.config.walk import key_of, keys_of, section_of

FULL = Path(__file__).parent / "data" / "full.yaml"

DEFAULTS = {
    "agent.state_dir": "/var/lib/outlive",
    "agent.run_dir": "/run/outlive",
    "agent.log_level": "info",
    "agent.instance_id": None,
    "agent.stop_timeout": 10.0,
    "agent.status_address": None,
    "aws.region": None,
    "aws.role_arn": None,
    "aws.external_id": None,
    "logs.flush_interval": 5.0,
    "logs.compression": "gzip",
    "logs.rotated_linger": 60.0,
    "logs.max_open_files": 1024,
    "logs.max_deleted_bytes": 1024**3,
    "logs.role_arn": None,
    "logs.files.exclude": (),
    "logs.files.stream": "{instance_id}/{file_name}",
    "logs.files.retention": None,
    "logs.files.class": None,
    "logs.files.kms_key": None,
    "logs.files.tags": {},
    "logs.files.start_at": "beginning",
    "logs.files.encoding": "utf-8",
    "logs.files.timestamp": None,
    "logs.files.timestamp.timezone": "UTC",
    "logs.files.multiline": None,
    "logs.files.multiline_timeout": 5.0,
    "logs.files.keep": (),
    "logs.files.drop": (),
    "logs.files.max_event_size": 1024**2,
    "logs.files.delete_when_shipped": False,
    "logs.files.metrics": (),
    "logs.journald.units": (),
    "logs.journald.priority": "debug",
    "logs.journald.matches": {},
    "logs.journald.stream": "{instance_id}",
    "metrics.namespace": "CWAgent",
    "metrics.interval": 60.0,
    "metrics.flush_interval": 60.0,
    "metrics.dimensions": {"InstanceId": "{instance_id}"},
    "metrics.aggregate": (),
    "metrics.spool": Spool(max_size=64 * 1024**2, max_age="13d"),
    "metrics.spool.max_size": 64 * 1024**2,
    "metrics.spool.max_age": 13 * 86400.0,
    "metrics.max_series": 1000,
    "metrics.counter_zero_fill": 600.0,
    "metrics.gauge_ttl": 600.0,
    "metrics.role_arn": None,
    "metrics.os.cpu.measurements": ("usage_idle", "usage_iowait", "usage_user", "usage_system", "usage_steal"),
    "metrics.os.cpu.per_cpu": False,
    "metrics.os.memory.measurements": ("used_percent", "available"),
    "metrics.os.swap.measurements": ("used_percent",),
    "metrics.os.disk.measurements": ("used_percent", "inodes_free"),
    "metrics.os.disk.mounts": ("*",),
    "metrics.os.disk.drop_device": False,
    "metrics.os.disk.volume_id": False,
    "metrics.statsd.address": Address("127.0.0.1", 8125),
    "metrics.statsd.socket": None,
    "metrics.statsd.socket_mode": 0o666,
    "metrics.statsd.receive_buffer": 4 * 1024**2,
    "metrics.statsd.prefix": "",
    "metrics.statsd.separator": None,
    "metrics.statsd.metric_type": False,
    "metrics.statsd.dimensions": {},
    "metrics.emf.address": Address("127.0.0.1", 25888),
    "alarms.statistic": "Average",
    "alarms.for": Datapoints(3, 3),
    "alarms.missing_data": "ignore",
    "uploads.concurrency": 8,
    "uploads.part_size": 16 * 1024**2,
    "uploads.max_bandwidth": None,
    "uploads.role_arn": None,
    "uploads.directories.region": None,
    "uploads.directories.expected_bucket_owner": None,
    "uploads.directories.prefix": "",
    "uploads.directories.include": ("**",),
    "uploads.directories.exclude": (),
    "uploads.directories.mode": "copy",
    "uploads.directories.max_deletes": 0.1,
    "uploads.directories.settle": 2.0,
    "uploads.directories.rescan": 300.0,
    "uploads.directories.follow_symlinks": False,
    "uploads.directories.checksum": "CRC32",
    "uploads.directories.overwrite": True,
    "uploads.directories.storage_class": "STANDARD",
    "uploads.directories.kms_key": None,
    "uploads.directories.cache_control": None,
    "uploads.directories.content_type": {},
    "uploads.directories.tags": {},
    "uploads.directories.metadata": {},
    "snapshots.role_arn": None,
    "drain.triggers": Triggers(),
    "drain.triggers.auto_scaling": True,
    "drain.triggers.queue": None,
    "drain.triggers.spot": True,
    "drain.triggers.rebalance": False,
    "drain.triggers.scheduled_events": False,
    "drain.triggers.shutdown": True,
    "drain.auto_scaling_group": None,
    "drain.hook": None,
    "drain.timeout": 900.0,
    "drain.shutdown_timeout": 60.0,
    "drain.before.as": None,
    "drain.before.on_failure": "continue",
    "drain.before.on_resume": "rerun",
    "drain.deregister": (),
    "drain.after": (),
    "drain.on_incomplete": "hold",
    "drain.strict": False,
    "drain.receipt": Receipt(),
    "drain.receipt.bucket": None,
    "drain.receipt.prefix": "receipts/",
    "drain.receipt.group": None,
    "drain.receipt.notify": None,
}

REQUIRED = {
    "logs.files.path",
    "logs.files.group",
    "logs.files.timestamp.format",
    "logs.files.metrics.name",
    "logs.files.metrics.match",
    "logs.journald.group",
    "metrics.prometheus.url",
    "metrics.emf.groups",
    "alarms.name",
    "alarms.metric",
    "alarms.threshold",
    "alarms.period",
    "uploads.directories.path",
    "uploads.directories.bucket",
    "snapshots.name",
    "snapshots.bucket",
    "snapshots.key",
    "restore.bucket",
    "restore.prefix",
    "restore.path",
    "sessions.path",
    "sessions.target",
    "sessions.ttl",
    "drain.before.name",
    "drain.before.run",
}

# Where the contract gives an example and no default, or only says in words what is meant.
CHOSEN = {
    "logs.files": (),
    "logs.journald": (),
    "logs.files.timestamp.json_key": None,
    "logs.files.multiline.start": None,
    "logs.files.multiline.continue": None,
    "logs.files.metrics.value": 1.0,
    "logs.files.metrics.unit": "Count",
    "metrics.os": None,
    "metrics.processes": (),
    "metrics.statsd": None,
    "metrics.prometheus": (),
    "metrics.emf": None,
    "metrics.os.diskio.measurements": ("reads", "writes", "read_bytes", "write_bytes", "io_time"),
    "metrics.os.diskio.devices": ("*",),
    "metrics.os.net.measurements": ("bytes_sent", "bytes_recv", "drop_in", "drop_out", "err_in", "err_out"),
    "metrics.os.net.interfaces": ("*",),
    "metrics.os.netstat.measurements": ("tcp_established", "tcp_time_wait", "udp_socket"),
    "metrics.os.processes.measurements": ("running", "blocked", "zombies", "total"),
    "metrics.os.ethtool.interfaces": ("eth*", "en*"),
    "metrics.os.ethtool.include": ("*_allowance_exceeded", "conntrack_allowance_available"),
    "metrics.processes.pattern": None,
    "metrics.processes.exe": None,
    "metrics.processes.pid_file": None,
    "metrics.processes.measurements": ("cpu_usage", "memory_rss", "num_fds", "pid_count"),
    "metrics.prometheus.interval": 60.0,
    "metrics.prometheus.include": ("*",),
    "metrics.prometheus.labels_as_dimensions": (),
    "alarms.dimensions": {},
    "alarms.notify": (),
    "uploads.directories": (),
    "snapshots.sqlite": None,
    "snapshots.command": None,
    "snapshots.every": None,
    "snapshots.cron": None,
    "snapshots.at_drain": True,
    "snapshots.timeout": 300.0,
    "restore.newest": True,
    "restore.mode": 0o640,
    "restore.owner": None,
    "restore.required": False,
    "restore.overwrite": False,
    "sessions.restore": True,
    "drain.before": (),
    "drain.before.timeout": 60.0,
    "drain.before.at_shutdown": False,
}


def fields(model=Config, path=""):
    """Every key below the sections, by its path; what `after` holds is what `before` holds."""
    for key, field in keys_of(model).items():
        here = f"{path}.{key}".removeprefix(".")
        inner = section_of(field)
        if path and not (inner and path == "metrics.os"):
            yield here, field
        if inner is not None and here != "drain.after":
            yield from fields(inner, here)


FIELDS = dict(fields())
FIELDS_AND_SECTIONS = FIELDS | keys_of(Config) | {f"metrics.os.{key}": field for key, field in keys_of(Os).items()}


def check(text):
    return Config.model_validate(parse(text, "f.yaml").root.plain())


def refusal(text):
    with pytest.raises(ValidationError) as caught:
        check(text)
    return str(caught.value)


def entries(count):
    """That many entries of a map."""
    return ", ".join(f"k{i}: x" for i in range(count))


class TestContract:
    @pytest.mark.parametrize("path", sorted(DEFAULTS))
    def test_the_default_is_the_contract_s(self, path):
        assert FIELDS[path].default == DEFAULTS[path]
        assert type(FIELDS[path].default) is type(DEFAULTS[path])

    @pytest.mark.parametrize("path", sorted(CHOSEN))
    def test_the_default_is_the_one_that_was_chosen(self, path):
        assert FIELDS[path].default == CHOSEN[path]

    @pytest.mark.parametrize("path", sorted(REQUIRED))
    def test_the_key_is_required(self, path):
        assert FIELDS[path].is_required()

    def test_no_key_is_left_out_of_these_tables(self):
        assert set(FIELDS) == set(DEFAULTS) | REQUIRED | set(CHOSEN)

    def test_a_section_that_is_absent_is_off_except_the_agent_and_its_access(self):
        off = {name: value for name, value in Config() if value is None}
        assert set(off) == {"logs", "metrics", "alarms", "uploads", "snapshots", "restore", "sessions", "drain"}

    def test_os_without_a_collector_is_the_default_set(self):
        os = check("metrics: {os: {}}").metrics.os
        assert [name for name, value in os if value is not None] == ["cpu", "memory", "swap", "disk"]
        assert os.cpu.measurements == DEFAULTS["metrics.os.cpu.measurements"]

    def test_os_with_collectors_is_those_alone(self):
        os = check("metrics: {os: {net: {}, pressure: {}}}").metrics.os
        assert [name for name, value in os if value is not None] == ["net", "pressure"]

    def test_a_collector_without_a_value_is_refused(self):
        assert "cpu has no value; write `cpu: {}`" in refusal("metrics: {os: {cpu: }}")

    def test_a_configuration_never_changes(self):
        with pytest.raises(ValidationError, match="frozen"):
            Config().agent.log_level = "debug"


class TestFullExample:
    def entries(self, value, path=""):
        """The path of every key that the file sets."""
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict):
                for key, inner in item.items():
                    here = f"{path}.{key}".removeprefix(".").replace("drain.after", "drain.before")
                    yield here
                    yield from self.entries(inner, here)

    def test_it_loads(self):
        loaded = load(str(FULL))
        assert loaded.sources == (str(FULL),)
        assert [note.key for note in loaded.notes] == ["metrics.statsd.address"]

    def test_it_sets_every_key(self):
        used = set(self.entries(parse(FULL.read_text(), "f").root.plain()))
        assert set(FIELDS) - {"drain.after"} <= used

    def test_it_sets_every_key_to_something_else_than_its_default(self):
        changed = {
            path for path, value in values(load(str(FULL)).config) if value != FIELDS_AND_SECTIONS[path].default
        }
        assert set(FIELDS) - {"drain.after"} <= changed

    def test_what_it_says_is_what_is_read(self):
        config = load(str(FULL)).config
        httpd = config.logs.files[0]
        assert httpd.retention == 90
        assert httpd.keep == (re.compile('" 5\\d\\d '), re.compile('" 429 '))
        assert httpd.multiline.start.search("10.0.0.1 - -")
        assert config.logs.files[1].multiline == "java"
        assert config.agent.status_address == ("::1", 9464)
        assert str(config.agent.status_address) == "[::1]:9464"
        assert config.metrics.statsd.socket_mode == 0o660
        assert config.alarms[0].threshold == Threshold("<=", 7.5)
        assert config.alarms[0].for_ == Datapoints(4, 10)
        assert config.uploads.directories[0].path == "/srv/tickets/scans"
        assert config.drain.before[0].run == ("/usr/local/bin/sales", "--stop", "5")
        assert "pass" not in repr(config.sessions)


def values(section, path=""):
    """Every value of a configuration, by its path."""
    for name, field in type(section).model_fields.items():
        here = f"{path}.{key_of(name, field)}".removeprefix(".").replace("drain.after", "drain.before")
        value = getattr(section, name)
        yield here, value
        for item in value if type(value) is tuple else (value,):
            if isinstance(item, Section):
                yield from values(item, here)


class TestConstraints:
    FILE = "logs: {files: [{path: /a, group: g, %s}]}"

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("agent: {state_dir: var}", "it must begin with /"),
            ("agent: {run_dir: '/run/{run_dir}'}", "can't be used in the directories of the agent"),
            ("agent: {instance_id: 'a b'}", "is not an instance id"),
            ("agent: {stop_timeout: 2h}", "is not between 0s and 1h"),
            ("agent: {status_address: '0.0.0.0:80'}", "not on the loopback interface"),
            ("agent: {status_address: '127.0.0.1'}", "is not an address and port"),
            ("agent: {status_address: '127.0.0.1:70000'}", "is not an address and port"),
            ("agent: {status_address: 'example.com:80'}", "is not an address and port"),
            ("aws: {region: EU}", "is not an AWS region"),
            ("aws: {role_arn: 'arn:aws:iam::1:role/x'}", "is not a role ARN"),
            ("aws: {role_arn: 'arn:aws:iam::123456789012:user/x'}", "is not a role ARN"),
            ("logs: {flush_interval: 0}", "is not between 100ms and 1h"),
            ("logs: {compression: zstd}", "'gzip' or 'none'"),
            ("logs: {max_open_files: 0}", "greater than or equal to 1"),
            ("logs: {max_open_files: 1.5}", "valid integer"),
            ("logs: {max_deleted_bytes: -1}", "is not a size"),
            (FILE % "exclude: ['[']", "bracket or brace that is unbalanced"),
            (FILE % "exclude: ['{a,{b}}']", "within another"),
            (FILE % "retention: 2d", "is no retention of CloudWatch Logs"),
            (FILE % "retention: 30", "a plain 30 is a number of seconds; write 30d"),
            (FILE % "class: DELIVERY", "'STANDARD' or 'INFREQUENT_ACCESS'"),
            (FILE % "kms_key: alias/x", "is not a KMS key ARN"),
            (FILE % "tags: {'aws:x': y}", "is not a tag key"),
            (FILE % "tags: {x: 'a;b'}", "is not allowed in a tag"),
            (FILE % "tags: {x: '{file_name}'}", "belongs to no single file"),
            (FILE % "start_at: now", "'beginning' or 'end'"),
            (FILE % "encoding: utf-99", "is not a text encoding"),
            (FILE % "encoding: hex", "is not a text encoding"),
            (FILE % "timestamp: {format: rfc3339}", "is no time format"),
            (FILE % "timestamp: {format: '%Q'}", "can't be read by strptime"),
            (FILE % "timestamp: {format: '100%%'}", "is no time format"),
            (FILE % "timestamp: {format: epoch, timezone: Mars/Base}", "is not a time zone"),
            (FILE % "timestamp: {format: epoch, timezone: ../../etc/passwd}", "is not a time zone"),
            (FILE % "timestamp: {format: epoch, json_key: ''}", "is not a text"),
            (FILE % "multiline: rust", "'indented', 'python' or 'java'"),
            (FILE % "multiline: {}", "exactly one of start and continue"),
            (FILE % "multiline: {start: a, continue: b}", "exactly one of start and continue"),
            (FILE % "multiline: {start: '('}", "is not a regular expression: missing )"),
            (FILE % "multiline_timeout: 0", "is not between 1ms and"),
            (FILE % "keep: ['*']", "nothing to repeat"),
            (FILE % "drop: ['(?<x)']", "is not a regular expression"),
            (FILE % "max_event_size: 2MiB", "is not between 1KiB and 1MiB"),
            (FILE % "metrics: [{name: é, match: x}]", "is not a metric name"),
            (FILE % "metrics: [{name: a, match: x, unit: count}]", "did you mean Count?"),
            (FILE % "metrics: [{name: a, match: x, value: .inf}]", "finite number"),
            ("logs: {files: [{path: a.log, group: g}]}", "is not the absolute path of files"),
            ("logs: {files: [{path: [], group: g}]}", "the list is empty"),
            ("logs: {files: [{path: /a/, group: g}]}", "ends in a name"),
            ("logs: {files: [{path: /a, group: aws/x}]}", "may not be empty or begin with aws/"),
            ("logs: {files: [{path: /a, group: 'a:b'}]}", "':' is not allowed in a log group"),
            ("logs: {files: [{path: /a, group: '{tag:X|a b}'}]}", "' ' is not allowed in a log group"),
            ("logs: {files: [{path: /a, group: g, stream: 'a*b'}]}", "'*' is not allowed in a log stream"),
            ("logs: {files: [{path: /a, group: g, stream: ''}]}", "log stream"),
            ("logs: {files: [{path: /a, group: %s}]}" % ("g" * 513), "at most 512 characters"),
            ("logs: {journald: [{group: g, stream: '{file_name}'}]}", "belongs to no single file"),
            ("logs: {journald: [{group: g, priority: warn}]}", "'warning'"),
            ("logs: {journald: [{group: g, matches: {unit: x}}]}", "is not a field of the journal"),
            ("metrics: {namespace: AWS/EC2}", "is not a namespace"),
            ("metrics: {interval: 500ms}", "is not between 1s and 48h"),
            ("metrics: {dimensions: {':a': b}}", "is not a dimension name"),
            ("metrics: {dimensions: {a: ' '}}", "may not be blank"),
            ("metrics: {dimensions: {a: 'é'}}", "is not allowed in a metric dimension"),
            ("metrics: {dimensions: {a: '{date:%Y}'}}", "is fixed when the agent starts"),
            (f"metrics: {{dimensions: {{{entries(31)}}}}}", "at most 30"),
            ("metrics: {spool: {max_age: 15d}}", "is not between 1m and 14d"),
            ("metrics: {max_series: 0}", "greater than or equal to 1"),
            ("metrics: {os: []}", "valid dictionary"),
            ("metrics: {os: {cpu: {measurements: [usage]}}}", "is not a measurement of cpu"),
            ("metrics: {os: {disk: {measurements: [used_precent]}}}", "did you mean used_percent?"),
            ("metrics: {os: {disk: {mounts: []}}}", "at least 1"),
            ("metrics: {os: {pressure: {x: 1}}}", "Extra inputs"),
            ("metrics: {processes: [{measurements: [pid]}]}", "exactly one of pattern, exe and pid_file"),
            ("metrics: {processes: [{exe: a, pid_file: /b}]}", "exactly one of pattern, exe and pid_file"),
            ("metrics: {processes: [{pid_file: b}]}", "is not an absolute path"),
            ("metrics: {statsd: {address: null}}", "address and socket are both null"),
            ("metrics: {statsd: {socket: statsd.sock}}", "absolute path of a socket"),
            ("metrics: {statsd: {socket: /%s}}" % ("x" * 107), "at most 107 bytes"),
            ("metrics: {statsd: {socket_mode: 438}}", "is not a file mode in quotes"),
            ("metrics: {statsd: {socket_mode: '0888'}}", "is not a file mode in quotes"),
            ("metrics: {statsd: {separator: ' '}}", "sign between the parts"),
            ("metrics: {prometheus: [{url: 'ftp://x/'}]}", "is not a http URL"),
            ("metrics: {emf: {address: '10.1.2.3:1', groups: [g]}}", "not on the loopback interface"),
            ("metrics: {emf: {groups: []}}", "at least 1"),
            ("metrics: {emf: {groups: ['a b']}}", "is not allowed in a log group"),
            ("uploads: {concurrency: 0}", "greater than or equal to 1"),
            ("uploads: {part_size: 4MiB}", "is not between 5MiB and 5GiB"),
            ("snapshots: [{name: a, bucket: abc, key: k}]", "exactly one of sqlite and command"),
            (
                "snapshots: [{name: a, bucket: abc, key: k, sqlite: /a, command: [b]}]",
                "exactly one of sqlite and command",
            ),
            (
                "snapshots: [{name: a, bucket: abc, key: k, sqlite: /a, every: 5m, cron: '0 0 * * *'}]",
                "only one of every",
            ),
            ("snapshots: [{name: a, bucket: abc, key: k, sqlite: /a, at_drain: false}]", "it would never run"),
            (
                "snapshots: [{name: a, bucket: abc, key: k, sqlite: /a, cron: '61 0 * * *'}]",
                "is not a crontab expression",
            ),
            (
                "snapshots: [{name: a, bucket: abc, key: k, sqlite: /a, cron: '0 0 * *'}]",
                "is not a crontab expression",
            ),
            ("snapshots: [{name: a, bucket: abc, key: k, sqlite: /a, cron: '0 0 * * 1-5'}]", "numbers its weekdays"),
            ("snapshots: [{name: a, bucket: abc, key: k, sqlite: /a, cron: '0 0 * * */2'}]", "numbers its weekdays"),
            ("snapshots: [{name: a, bucket: abc, key: k, command: pg_dump}]", "as a list of words"),
            ("snapshots: [{name: a, bucket: abc, key: '', sqlite: /a}]", "S3 key: it may not be empty"),
            ("restore: [{bucket: abc, prefix: p, path: /a, mode: 0640}]", "is not a file mode in quotes"),
            ("restore: [{bucket: abc, prefix: p, path: /}]", "root directory itself is refused"),
            ("restore: [{bucket: abc, prefix: p, path: /a/../b}]", "climbs by .."),
            ("restore: [{bucket: abc, prefix: p, path: /a, owner: 'a b'}]", "is not a user name or id"),
            ("sessions: [{path: /a, target: 'memcached://x', ttl: 1h}]", "is not a session store"),
            ("sessions: [{path: /a, target: 'dynamodb:x', ttl: 1h}]", "is not a session store"),
            ("drain: {triggers: {queue: a.fifo}}", "FIFO queues take no such messages"),
            ("drain: {hook: 'a b'}", "is not a lifecycle hook name"),
            ("drain: {timeout: 3d}", "is not between 1s and 48h"),
            (
                "drain: {deregister: ['arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/x/1']}",
                "target group",
            ),
            ("drain: {before: [{name: a, run: ls -l}]}", "as a list of words"),
            ("drain: {before: [{name: a, run: []}]}", "as a list of words"),
            ("drain: {before: [{name: a, run: ['']}]}", "it can't be empty"),
            ("drain: {before: [{name: a, run: [sleep, 5]}]}", "5 is not text; put it in quotes"),
            ("drain: {before: [{name: a, run: [ls], as: admin}]}", "'root'"),
            ("drain: {before: [{name: a, run: [ls], on_failure: stop}]}", "'continue' or 'incomplete'"),
            ("drain: {after: [{name: a, run: [ls], on_resume: retry}]}", "'rerun', 'skip' or 'fail'"),
            ("drain: {before: [{name: a, run: [x]}], after: [{name: a, run: [y]}]}", "two steps are called a"),
            ("drain: {on_incomplete: wait}", "'hold', 'abandon' or 'continue'"),
            ("drain: {receipt: {bucket: A_B}}", "is not allowed in an S3 bucket"),
            ("drain: {receipt: {notify: ops}}", "SNS topic ARN"),
        ],
    )
    def test_what_can_not_be_is_refused(self, text, said):
        assert said in refusal(text)

    DIRECTORY = "uploads: {directories: [{path: /srv/a, bucket: shop, %s}]}"

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("uploads: {directories: [{path: srv, bucket: shop}]}", "is not an absolute path"),
            ("uploads: {directories: [{path: /, bucket: shop}]}", "root directory itself is refused"),
            ("uploads: {directories: [{path: /a, bucket: Shop}]}", "is not an S3 bucket name"),
            ("uploads: {directories: [{path: /a, bucket: 10.0.0.1}]}", "is not an S3 bucket name"),
            ("uploads: {directories: [{path: /a, bucket: a..b}]}", "is not an S3 bucket name"),
            (DIRECTORY % "region: x", "is not an AWS region"),
            (DIRECTORY % "expected_bucket_owner: '12'", "twelve digits, in quotes"),
            (DIRECTORY % "prefix: '{nope}'", "unknown placeholder {nope}"),
            (DIRECTORY % "prefix: '{env:AWS_SECRET_ACCESS_KEY}'", "AWS_* may hold secrets"),
            (DIRECTORY % "include: []", "at least 1"),
            (DIRECTORY % "mode: sync", "'copy', 'mirror' or 'move'"),
            (DIRECTORY % "max_deletes: 10", "is not a percentage"),
            (DIRECTORY % "max_deletes: 110%", "is not a percentage"),
            (DIRECTORY % "rescan: 0", "is not between 1s and 30d"),
            (DIRECTORY % "checksum: MD5", "'CRC32', 'SHA256' or 'CRC64NVME'"),
            (DIRECTORY % "storage_class: COLD", "'STANDARD'"),
            (DIRECTORY % "kms_key: 'a b'", "is not a KMS key"),
            (DIRECTORY % "cache_control: 'é'", "is not a header value"),
            (DIRECTORY % "content_type: {'*.x': text}", "is not a content type"),
            (DIRECTORY % f"tags: {{{entries(11)}}}", "at most 10"),
            (DIRECTORY % "metadata: {Upper: x}", "is not a metadata key"),
            (DIRECTORY % "metadata: {x: 'é'}", "is not allowed in an S3 metadata"),
        ],
    )
    def test_a_directory_that_can_not_be_uploaded_is_refused(self, text, said):
        assert said in refusal(text)

    ALARM = "{name: outlive/a, metric: m, threshold: '> 1', period: 60s, %s}"

    @pytest.mark.parametrize(
        ("entry", "said"),
        [
            ("{name: disk, metric: m, threshold: '> 1', period: 60s}", "it must begin with outlive/"),
            ("{name: '{tag:x}/outlive', metric: m, threshold: '> 1', period: 60s}", "it must begin with outlive/"),
            ("{name: outlive/, metric: m, threshold: '> 1', period: 60s}", "it must begin with outlive/"),
            ("{name: outlive/a, metric: m, threshold: 1, period: 60s}", "is not a threshold"),
            ("{name: outlive/a, metric: m, threshold: '= 1', period: 60s}", "is not a threshold"),
            ("{name: outlive/a, metric: m, threshold: '> 1%', period: 60s}", "is not a threshold"),
            ("{name: outlive/a, metric: m, threshold: '> 1', period: 45s}", "is no period of an alarm"),
            (ALARM % "for: 3", "is not M of N"),
            (ALARM % "for: 4 of 3", "is not M of N"),
            (ALARM % "for: 0 of 3", "is not M of N"),
            (ALARM % "for: 1 of 1441", "look back too far"),
            (ALARM % "statistic: median", "is not a statistic"),
            (ALARM % "missing_data: ok", "'notBreaching'"),
            (ALARM % "notify: [ops]", "SNS topic ARN"),
            (ALARM % "notify: [arn:aws:sqs:eu-west-1:123456789012:ops]", "SNS topic ARN"),
        ],
    )
    def test_an_alarm_that_cloudwatch_would_not_take_is_refused(self, entry, said):
        assert said in refusal(f"metrics: {{}}\nalarms: [{entry}]")

    @pytest.mark.parametrize("written", ["> 90", ">= 0.5", "<-3", "<= 1000000"])
    def test_a_threshold_compares_with_a_number(self, written):
        alarm = check(f"alarms: [{{name: outlive/a, metric: m, threshold: '{written}', period: 60s}}]").alarms[0]
        comparison, number = re.match("([<>]=?)(.*)", written).groups()
        assert alarm.threshold == (comparison, float(number))

    @pytest.mark.skipif(importlib.util.find_spec("awscrt") is not None, reason="awscrt is installed here")
    def test_a_checksum_that_can_not_be_computed_here_is_refused(self):
        assert "needs the Python package awscrt" in refusal(self.DIRECTORY % "checksum: CRC64NVME")

    @pytest.mark.parametrize(
        "written",
        ["%b %d %H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f%z", "%d/%b/%Y:%H:%M:%S %z", "iso8601", "epoch", "epoch_ms"],
    )
    def test_time_formats_of_real_logs_are_taken(self, written):
        assert check(self.FILE % f"timestamp: {{format: '{written}'}}").logs.files[0].timestamp.format == written

    @pytest.mark.parametrize("address", ["127.0.0.1:0", "127.9.9.9:1", "localhost:80", "[::1]:65535"])
    def test_loopback_has_several_addresses(self, address):
        assert str(check(f"agent: {{status_address: '{address}'}}").agent.status_address) == address

    def test_a_path_is_one_or_a_list(self):
        one = check("logs: {files: [{path: /a, group: g}, {path: [/b, '/c/{d,e}/**/*.log'], group: g}]}")
        assert [file.path for file in one.logs.files] == [("/a",), ("/b", "/c/{d,e}/**/*.log")]

    def test_a_pattern_that_begins_with_a_bracket_in_a_set_gives_no_warning(self):
        assert check(self.FILE % "keep: ['[[]x']").logs.files[0].keep[0].search("[x")


ALARM = "{name: outlive/a, metric: m, threshold: '> 1', period: 60s}"
SNAPSHOT = "{name: a, bucket: abc, key: k, sqlite: /a}"


class TestRulesBetweenSections:
    @pytest.mark.parametrize(
        ("text", "said"),
        [
            (
                "aws: {external_id: shop}",
                "1:20: aws.external_id: is sent when a role is assumed, but there is no role_arn",
            ),
            (
                "alarms: [{name: outlive/a, metric: m, threshold: '> 1', period: 60s}]",
                "1:9: alarms: needs the section metrics, which is off",
            ),
            (
                "logs: {files: [{path: /a, group: g, metrics: [{name: a, match: x}]}]}",
                "1:46: logs.files[0].metrics: needs the section metrics, which is off",
            ),
            (
                "metrics: {}\nalarms: [{name: outlive/a, metric: m, threshold: '> 1', period: 10s}]",
                "2:65: alarms[0].period: a period below 60s needs metrics of high resolution",
            ),
            (
                f"metrics: {{}}\nalarms:\n- {ALARM}\n- {ALARM}",
                "4:10: alarms[1].name: 'outlive/a' is taken by another of alarms",
            ),
            (
                f"snapshots:\n- {SNAPSHOT}\n- {SNAPSHOT}",
                "3:10: snapshots[1].name: 'a' is taken by another of snapshots",
            ),
            (
                "uploads:\n  directories:\n  - {path: /a, bucket: abc}\n  - {path: /a/, bucket: abc}",
                "4:5: uploads.directories[1]: sends the same directory to the same place",
            ),
            (
                "logs:\n  files:\n  - {path: /a, group: g, retention: 3d}\n  - {path: /b, group: g, retention: 5d}",
                "4:37: logs.files[1].retention: another entry keeps g for 3d; a group has one retention",
            ),
        ],
    )
    def test_sections_must_agree(self, tmp_path, text, said):
        path = tmp_path / "outlive.yaml"
        path.write_text(text)
        with pytest.raises(InvalidConfig) as caught:
            load(str(path))
        (problem,) = caught.value.problems
        assert str(problem).startswith(f"{path}:{said}")

    @pytest.mark.parametrize(
        "text",
        [
            "aws: {external_id: shop}\nlogs: {role_arn: 'arn:aws:iam::123456789012:role/x'}",
            "metrics: {interval: 10s}\nalarms: [{name: outlive/a, metric: m, threshold: '> 1', period: 10s}]",
            "logs: {files: [{path: /a, group: g, retention: 3d}, {path: /b, group: g}]}",
            "uploads: {directories: [{path: /a, bucket: abc}, {path: /a, bucket: abd}]}",
        ],
    )
    def test_sections_that_agree_are_fine(self, tmp_path, text):
        path = tmp_path / "outlive.yaml"
        path.write_text(text)
        assert load(str(path)).config != Config()
