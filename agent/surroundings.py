"""Where the agent runs: which instance, which region, what else the configuration's placeholders need.

While instance metadata does not answer, the agent waits for it: an instance id is never guessed on EC2, because
state is bound to it. Elsewhere (a laptop) the host name does.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace

from agent.aws.autoscaling import AutoScaling
from agent.aws.errors import AwsError, Transient
from agent.aws.metadata import DEFAULT_ENDPOINT, Metadata, MetadataDisabled, MetadataError
from agent.aws.session import Aws, RegionUnknown, find_region
from agent.config.placeholders import Facts
from agent.config.schema import Config
from agent.engine.backoff import Backoff
from agent.engine.events import Events

_EC2_MARKS = (("sys/devices/virtual/dmi/id/sys_vendor", "amazon ec2"), ("sys/hypervisor/uuid", "ec2"))
_WAIT_CAP = 10.0  # seconds between two questions to a metadata service that is silent


class SurroundingsError(Exception):
    """The agent can't know where it runs; the message says what was tried and what to set. Exit code 2."""


class Interrupted(Exception):
    """Asked to stop while waiting."""


@dataclass(frozen=True)
class Place:
    """Which instance this is. `metadata` says whether the metadata service answers here."""

    instance_id: str
    region: str
    metadata: bool
    identity: dict[str, str]  # the instance identity document, empty off EC2


def find_place(
    config: Config, metadata: Metadata, events: Events, wait: Callable[[float], bool], root: str = "/"
) -> Place:
    """Wait for what must be known. `wait(seconds)` is True when the agent shall stop instead.

    Raises SurroundingsError, Interrupted.
    """
    try:
        region = find_region(config.aws.region)
    except RegionUnknown as error:
        raise SurroundingsError(str(error)) from error
    told = region is not None and config.agent.instance_id is not None
    identity, silence = _identity(metadata, events, wait, patient=_is_ec2(metadata, root) and not told)
    region = region or identity.get("region")
    if region is None:
        raise SurroundingsError(_no_region(metadata, silence))
    found = config.agent.instance_id or identity.get("instanceId") or _asset_tag(root) or socket.gethostname()
    return Place(found, region, metadata=bool(identity), identity=identity)


def gather_patiently(
    config: Config,
    place: Place,
    needed: set[str],
    metadata: Metadata,
    aws: Aws,
    events: Events,
    wait: Callable[[float], bool],
) -> Facts:
    """`gather`, tried again while AWS or metadata are silent. Raises Interrupted."""
    backoff = Backoff(base=0.5, cap=_WAIT_CAP)
    while True:
        try:
            return gather(config, place, needed, metadata, aws)
        except (MetadataError, Transient) as error:
            events.trouble("warning", "waiting_for_facts", "", error=str(error), needed=sorted(needed))
        if wait(backoff.next()):
            raise Interrupted


def gather(config: Config, place: Place, needed: set[str], metadata: Metadata, aws: Aws) -> Facts:
    """The facts that the configuration's placeholders need, and no others asked for.

    Raises MetadataError and Transient: a fact that can't be had now is not one that there is none of.
    """
    identity = place.identity
    facts = Facts(
        instance_id=place.instance_id,
        hostname=socket.gethostname(),
        region=place.region,
        account_id=identity.get("accountId"),
        private_ip=identity.get("privateIp"),
        availability_zone=identity.get("availabilityZone"),
        instance_type=identity.get("instanceType"),
        image_id=identity.get("imageId"),
        env={name[4:]: os.environ.get(name[4:], "") for name in needed if name.startswith("env:")},
    )
    if "account_id" in needed and not facts.account_id:
        facts = replace(facts, account_id=_account(aws))
    if "auto_scaling_group" in needed:
        facts = replace(facts, auto_scaling_group=find_group(config, place, metadata, aws))
    tags = [name[4:] for name in needed if name.startswith("tag:")]
    if tags and place.metadata:
        facts = replace(facts, tags={tag: metadata.tag(tag) or "" for tag in tags})
    return facts


def find_group(config: Config, place: Place, metadata: Metadata, aws: Aws) -> str | None:
    """The Auto Scaling group, by configuration, instance tag, or asking. None: in no group, or not to be known.

    Raises Transient.
    """
    if config.drain is not None and config.drain.auto_scaling_group:
        return config.drain.auto_scaling_group
    try:
        tagged = metadata.tag("aws:autoscaling:groupName") if place.metadata else None
    except MetadataError:
        tagged = None
    if tagged:
        return tagged
    try:
        found = AutoScaling(aws, place.instance_id).membership()
    except Transient:
        raise
    except AwsError:
        return None
    return found[0] if found else None


def boot_id(root: str = "/") -> str:
    """The kernel's name for this boot (random(4))."""
    try:
        with open(os.path.join(root, "proc/sys/kernel/random/boot_id"), encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return "unknown"


def _identity(
    metadata: Metadata, events: Events, wait: Callable[[float], bool], *, patient: bool
) -> tuple[dict[str, str], str]:
    """The identity document; {} and the reason where there is no metadata service to wait for."""
    backoff = Backoff(base=0.5, cap=_WAIT_CAP)
    while True:
        try:
            identity = metadata.identity()
            events.over("waiting_for_metadata", "", said="metadata_answers", instance_id=identity["instanceId"])
            return identity, ""
        except MetadataDisabled as error:
            return {}, str(error)
        except MetadataError as error:
            if not patient:
                return {}, str(error)
            events.trouble("warning", "waiting_for_metadata", "", error=str(error))
        if wait(backoff.next()):
            raise Interrupted


def _is_ec2(metadata: Metadata, root: str) -> bool:
    """Whether this machine is an EC2 instance, or is told to take another metadata service for real."""
    if metadata.disabled:
        return False
    return metadata.endpoint != DEFAULT_ENDPOINT or any(
        _starts(os.path.join(root, path), mark) for path, mark in _EC2_MARKS
    )


def _starts(path: str, mark: str) -> bool:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read(64).lower().startswith(mark)
    except OSError:
        return False


def _asset_tag(root: str) -> str | None:
    """The instance id as Nitro instances show it in DMI, for when metadata is switched off."""
    try:
        with open(os.path.join(root, "sys/devices/virtual/dmi/id/board_asset_tag"), encoding="ascii") as file:
            tag = file.read(64).strip()
    except (OSError, ValueError):
        return None
    return tag if re.fullmatch(r"i-[0-9a-f]{8,17}", tag) else None


def _account(aws: Aws) -> str | None:
    from agent.aws.cold import call

    try:
        answer = call("GetCallerIdentity", aws.client("sts").get_caller_identity)
    except Transient:
        raise
    except AwsError:
        return None
    return str(answer["Account"])


def _no_region(metadata: Metadata, silence: str) -> str:
    return (
        "no AWS region found. Tried: aws.region in the configuration, AWS_REGION, AWS_DEFAULT_REGION, the profile in "
        f"~/.aws/config, instance metadata at {metadata.endpoint} ({silence}). "
        "On EC2, enable the metadata service; elsewhere, set aws.region (and credentials in the environment)"
    )
