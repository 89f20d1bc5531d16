"""Where the agent runs: known, waited for, or said to be unknown; never guessed where state is bound to it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from conftest import Environment, Said

from agent.aws.errors import Transient
from agent.aws.metadata import Metadata, MetadataError
from agent.aws.session import Aws
from agent.config.schema import Config
from agent.config.sections.agent import Agent
from agent.config.sections.aws import Aws as AwsSection
from agent.config.sections.drain import Drain
from agent.engine.clock import FakeClock
from agent.engine.events import Events
from agent.standin.faults import Fault, Kind
from agent.standin.standin import ACCOUNT_ID, INSTANCE_ID, Standin
from agent.surroundings import Interrupted, Place, SurroundingsError, boot_id, find_place, gather, gather_patiently

LAPTOP = {
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "AWS_ACCESS_KEY_ID": "AKIA",
    "AWS_SECRET_ACCESS_KEY": "secret",
}


class Waits:
    """Remembers each wait, and lets `happens` happen in the first one; says to stop after so many."""

    def __init__(self, *, stop_after: int = 100, happens: Callable[[], None] = lambda: None) -> None:
        self.seconds: list[float] = []
        self._stop_after = stop_after
        self._happens = happens

    def __call__(self, seconds: float) -> bool:
        self.seconds.append(seconds)
        assert len(self.seconds) < 1000, "it waits for ever"
        if len(self.seconds) == 1:
            self._happens()
        return len(self.seconds) >= self._stop_after


def no_wait(seconds: float) -> bool:
    pytest.fail(f"there was nothing to wait for, and it waited {seconds} s")


@pytest.fixture
def metadata(standin: Standin, clock: FakeClock) -> Iterator[Metadata]:
    with closing(Metadata(clock, {"AWS_EC2_METADATA_SERVICE_ENDPOINT": standin.url})) as metadata:
        yield metadata


@pytest.fixture
def nowhere(clock: FakeClock) -> Iterator[Metadata]:
    """A metadata service that does not exist, at an address that is not the usual one."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with closing(Metadata(clock, {"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://127.0.0.1:{port}"})) as metadata:
        yield metadata


class UsualAddress(Metadata):
    """A metadata service that does not exist, as if at the usual address: what a laptop sees."""

    def __init__(self, other: Metadata) -> None:
        super().__init__(FakeClock(), {})
        self._other = other
        self.asked = 0

    def identity(self) -> dict[str, str]:
        self.asked += 1
        return self._other.identity()


def machine(root: Path, files: dict[str, str]) -> str:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return str(root)


def config(**sections: object) -> Config:
    return Config(**sections)


# on EC2


def test_an_instance_is_what_its_metadata_says(metadata: Metadata, events: Events, environment: Environment) -> None:
    with environment({}):
        place = find_place(config(), metadata, events, no_wait)
    assert (place.instance_id, place.region, place.metadata) == (INSTANCE_ID, "eu-west-1", True)
    assert place.identity["accountId"] == ACCOUNT_ID


def test_configuration_and_environment_come_before_metadata(
    metadata: Metadata, events: Events, environment: Environment
) -> None:
    with environment({"AWS_REGION": "eu-west-2"}):
        place = find_place(config(agent=Agent(instance_id="i-0c")), metadata, events, no_wait)
        assert (place.instance_id, place.region, place.metadata) == ("i-0c", "eu-west-2", True)
        place = find_place(config(aws=AwsSection(region="eu-west-3")), metadata, events, no_wait)
        assert (place.instance_id, place.region) == (INSTANCE_ID, "eu-west-3")


@pytest.mark.parametrize("kind", [Kind.ERROR, Kind.RESET])
def test_on_ec2_it_waits_for_metadata_that_is_silent(
    standin: Standin, metadata: Metadata, events: Events, said: Said, environment: Environment, kind: Kind
) -> None:
    standin.faults.add(Fault(kind, service="imds", status=503))
    waits = Waits(happens=standin.faults.clear)
    with environment({"AWS_REGION": "eu-west-1"}):
        assert find_place(config(), metadata, events, waits).instance_id == INSTANCE_ID
    assert len(waits.seconds) == 1
    assert said.names() == ["waiting_for_metadata", "metadata_answers"]


def test_half_an_answer_is_waited_for_too(
    standin: Standin, metadata: Metadata, events: Events, environment: Environment
) -> None:
    path = "dynamic/instance-identity/document"
    standin.metadata.set(path, '{"region": "eu-west-1"}')
    with environment({"AWS_REGION": "eu-west-1"}):
        place = find_place(config(), metadata, events, Waits(happens=lambda: standin.metadata.unset(path)))
    assert place.instance_id == INSTANCE_ID


def test_waiting_can_be_interrupted(nowhere: Metadata, events: Events, said: Said, environment: Environment) -> None:
    waits = Waits(stop_after=40)
    with environment({"AWS_REGION": "eu-west-1"}), pytest.raises(Interrupted):
        find_place(config(), nowhere, events, waits)
    assert len(waits.seconds) == 40
    assert max(waits.seconds) <= 10.0
    assert said.names() == ["waiting_for_metadata"]  # said once, while the clock stands still


@pytest.mark.parametrize(
    "files",
    [
        {"sys/devices/virtual/dmi/id/sys_vendor": "Amazon EC2\n"},
        {"sys/hypervisor/uuid": "ec2e1916-9099-7caf-fd21-012345abcdef\n"},
        {"sys/hypervisor/uuid": "EC2E1916-9099-7CAF-FD21-012345ABCDEF\n"},
    ],
)
def test_the_machine_itself_says_that_it_is_ec2(
    nowhere: Metadata, events: Events, tmp_path: Path, environment: Environment, files: dict[str, str]
) -> None:
    usual = UsualAddress(nowhere)
    with environment(LAPTOP), pytest.raises(Interrupted):
        find_place(config(), usual, events, Waits(stop_after=3), machine(tmp_path, files))
    assert usual.asked == 3


# elsewhere


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"sys/devices/virtual/dmi/id/sys_vendor": "LENOVO\n", "sys/hypervisor/uuid": "00000000-ec2\n"},
        {"sys/devices/virtual/dmi/id/sys_vendor": "Not Amazon EC2\n"},
    ],
)
def test_a_laptop_with_region_and_credentials_runs_on_its_host_name(
    nowhere: Metadata, events: Events, said: Said, tmp_path: Path, environment: Environment, files: dict[str, str]
) -> None:
    usual = UsualAddress(nowhere)
    with environment({**LAPTOP, "AWS_REGION": "eu-west-1"}):
        place = find_place(config(), usual, events, no_wait, machine(tmp_path, files))
    assert place == Place(socket.gethostname(), "eu-west-1", metadata=False, identity={})
    assert usual.asked == 1
    assert said.lines == []


def test_metadata_that_is_switched_off_is_not_waited_for_even_on_ec2(
    clock: FakeClock, events: Events, tmp_path: Path, environment: Environment
) -> None:
    disabled = Metadata(clock, {"AWS_EC2_METADATA_DISABLED": "true"})
    root = machine(tmp_path, {"sys/devices/virtual/dmi/id/sys_vendor": "Amazon EC2\n"})
    with environment({**LAPTOP, "AWS_REGION": "eu-west-1"}):
        place = find_place(config(agent=Agent(instance_id="i-0c")), disabled, events, no_wait, root)
    assert place == Place("i-0c", "eu-west-1", metadata=False, identity={})


def test_metadata_that_answers_403_is_not_waited_for(
    standin: Standin, metadata: Metadata, events: Events, environment: Environment
) -> None:
    standin.metadata.enabled = False
    with environment({**LAPTOP, "AWS_REGION": "eu-west-1"}):
        place = find_place(config(agent=Agent(instance_id="i-0c")), metadata, events, no_wait)
    assert (place.instance_id, place.metadata) == ("i-0c", False)


def test_without_a_region_everything_that_was_tried_is_named(
    nowhere: Metadata, events: Events, tmp_path: Path, environment: Environment
) -> None:
    with environment(LAPTOP), pytest.raises(SurroundingsError) as caught:
        find_place(config(), UsualAddress(nowhere), events, no_wait, str(tmp_path))
    for tried in ("aws.region", "AWS_REGION", "AWS_DEFAULT_REGION", "~/.aws/config", "169.254.169.254", "refused"):
        assert tried in str(caught.value)


def test_without_a_region_a_disabled_metadata_service_is_named(
    clock: FakeClock, events: Events, environment: Environment
) -> None:
    disabled = Metadata(clock, {"AWS_EC2_METADATA_DISABLED": "true"})
    with environment(LAPTOP), pytest.raises(SurroundingsError, match="AWS_EC2_METADATA_DISABLED"):
        find_place(config(), disabled, events, no_wait)


def test_a_profile_that_does_not_exist_is_named(metadata: Metadata, events: Events, environment: Environment) -> None:
    with environment({**LAPTOP, "AWS_PROFILE": "misspelt"}), pytest.raises(SurroundingsError, match="misspelt"):
        find_place(config(), metadata, events, no_wait)


# what placeholders need


@pytest.fixture
def instance(metadata: Metadata, events: Events, aws: Aws) -> Place:
    return find_place(config(), metadata, events, no_wait)


LOCAL = Place("laptop", "eu-west-1", metadata=False, identity={})


def test_what_the_identity_document_says_is_not_asked_for_again(
    standin: Standin, instance: Place, metadata: Metadata, aws: Aws
) -> None:
    standin.journal.clear()
    facts = gather(config(), instance, {"account_id", "region", "instance_type"}, metadata, aws)
    assert (facts.account_id, facts.region, facts.instance_id) == (ACCOUNT_ID, "eu-west-1", INSTANCE_ID)
    assert (facts.private_ip, facts.availability_zone) == ("10.0.0.10", "eu-west-1a")
    assert (facts.instance_type, facts.image_id) == ("m6i.large", "ami-0123456789abcdef0")
    assert facts.hostname == socket.gethostname()
    assert standin.journal.calls() == []


def test_the_account_is_asked_of_sts_only_where_it_is_needed(standin: Standin, metadata: Metadata, aws: Aws) -> None:
    assert gather(config(), LOCAL, {"region"}, metadata, aws).account_id is None
    assert standin.journal.calls() == []
    assert gather(config(), LOCAL, {"account_id"}, metadata, aws).account_id == ACCOUNT_ID
    assert [call.operation for call in standin.journal.calls()] == ["GetCallerIdentity"]


def test_an_account_that_may_not_be_asked_for_is_none(standin: Standin, metadata: Metadata, aws: Aws) -> None:
    standin.faults.add(Fault(Kind.ERROR, service="sts", status=403, code="AccessDenied"))
    assert gather(config(), LOCAL, {"account_id"}, metadata, aws).account_id is None


def test_a_fact_that_cannot_be_had_now_is_not_one_that_there_is_none_of(
    standin: Standin, metadata: Metadata, aws: Aws
) -> None:
    """Else a fallback would be taken for ever, or the configuration be called wrong, because of one bad moment."""
    standin.faults.outage()
    for fact in ("account_id", "auto_scaling_group"):
        with pytest.raises(Transient):
            gather(config(), LOCAL, {fact}, metadata, aws)


def test_tags_are_read_where_they_are_used(standin: Standin, instance: Place, metadata: Metadata, aws: Aws) -> None:
    standin.metadata.set_tags({"Name": "web-1", "Secret": "x"})
    facts = gather(config(), instance, {"tag:Name", "tag:None"}, metadata, aws)
    assert facts.tags == {"Name": "web-1", "None": ""}
    assert not any("Secret" in call.operation for call in standin.journal.calls("imds"))
    assert gather(config(), LOCAL, {"tag:Name"}, metadata, aws).tags == {}


def test_a_tag_that_metadata_is_silent_about_is_not_an_absent_one(
    standin: Standin, instance: Place, metadata: Metadata, aws: Aws
) -> None:
    standin.faults.add(Fault(Kind.ERROR, service="imds", status=503))
    with pytest.raises(MetadataError):
        gather(config(), instance, {"tag:Name"}, metadata, aws)


def test_only_the_variables_that_are_used_are_read(
    standin: Standin, metadata: Metadata, aws: Aws, environment: Environment
) -> None:
    with environment({**os.environ, "STAGE": "prod", "OTHER": "x"}):
        assert gather(config(), LOCAL, {"env:STAGE", "env:NONE"}, metadata, aws).env == {"STAGE": "prod", "NONE": ""}


# the group


def test_the_group_is_the_configurations_the_tags_or_what_auto_scaling_says(
    standin: Standin, instance: Place, metadata: Metadata, aws: Aws
) -> None:
    standin.lifecycle.add_group("asked", instances=[INSTANCE_ID])
    standin.journal.clear()
    configured = config(drain=Drain(auto_scaling_group="configured"))
    needed = {"auto_scaling_group"}
    assert gather(config(), instance, {"region"}, metadata, aws).auto_scaling_group is None
    assert gather(configured, instance, needed, metadata, aws).auto_scaling_group == "configured"
    assert standin.journal.calls() == []
    assert gather(config(), instance, needed, metadata, aws).auto_scaling_group == "asked"
    standin.metadata.set_tags({"aws:autoscaling:groupName": "tagged"})
    assert gather(config(), instance, needed, metadata, aws).auto_scaling_group == "tagged"


def test_a_silent_moment_of_metadata_leads_to_auto_scaling_itself(
    standin: Standin, instance: Place, metadata: Metadata, aws: Aws
) -> None:
    standin.lifecycle.add_group("asked", instances=[INSTANCE_ID])
    standin.faults.add(Fault(Kind.ERROR, service="imds", status=503))
    assert gather(config(), instance, {"auto_scaling_group"}, metadata, aws).auto_scaling_group == "asked"


def test_no_group_and_no_permission_to_ask_are_both_none(
    standin: Standin, instance: Place, metadata: Metadata, aws: Aws
) -> None:
    assert gather(config(), instance, {"auto_scaling_group"}, metadata, aws).auto_scaling_group is None
    standin.faults.add(Fault(Kind.ERROR, service="autoscaling", status=403, code="AccessDenied"))
    assert gather(config(), instance, {"auto_scaling_group"}, metadata, aws).auto_scaling_group is None


# the boot


def test_a_boot_has_the_kernels_name(tmp_path: Path) -> None:
    root = machine(tmp_path, {"proc/sys/kernel/random/boot_id": "1d2b\n"})
    assert boot_id(root) == "1d2b"
    assert boot_id(str(tmp_path / "none")) == "unknown"
    assert len(boot_id()) == 36


def test_facts_are_waited_for_while_aws_is_silent(
    standin: Standin, instance: Place, metadata: Metadata, aws: Aws, events: Events
) -> None:
    outage = standin.faults.outage()
    waits: list[float] = []

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        standin.faults.remove(outage)
        return False

    needed = {"auto_scaling_group"}
    facts = gather_patiently(Config(), instance, needed, metadata, aws, events, wait)
    assert facts.auto_scaling_group is None
    assert len(waits) == 1


def test_waiting_for_facts_can_be_interrupted(
    standin: Standin, instance: Place, metadata: Metadata, aws: Aws, events: Events
) -> None:
    standin.faults.outage()
    with pytest.raises(Interrupted):
        gather_patiently(Config(), instance, {"auto_scaling_group"}, metadata, aws, events, lambda _: True)


def test_with_metadata_switched_off_the_board_says_which_instance_this_is(
    events: Events, environment: Environment, clock: FakeClock, tmp_path: Path
) -> None:
    dmi = tmp_path / "sys/devices/virtual/dmi/id"
    dmi.mkdir(parents=True)
    (dmi / "board_asset_tag").write_text("i-0123456789abcdef0\n")
    silent = Metadata(clock, {"AWS_EC2_METADATA_DISABLED": "true"})
    with environment({"AWS_REGION": "eu-west-1"}):
        place = find_place(Config(), silent, events, no_wait, str(tmp_path))
    assert place.instance_id == "i-0123456789abcdef0"
