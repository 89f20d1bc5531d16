"""The section `uploads`: directories kept in step with S3.

Source of names and limits: the API reference of S3 (PutObject, UploadPart) and its user guide (tags, metadata).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from agent.config.base import Section
from agent.config.markers import Bytes, Seconds
from agent.config.names import (
    AccountId,
    BucketName,
    ContentType,
    HeaderText,
    KeyName,
    MetadataKey,
    Region,
    RoleArn,
    TagKey,
)
from agent.config.places import Place, Placed, Uses
from agent.config.values import DirectoryPath, Duration, Glob, Percentage

_OBJECT_TAGS_MAX = 10  # tags of an object

KeyPrefix = Annotated[str, Placed(Place.KEY_PREFIX, Uses.FILE)]
ObjectTag = Annotated[str, Placed(Place.TAG, Uses.FILE)]
ObjectMetadata = Annotated[str, Placed(Place.OBJECT_METADATA, Uses.FILE)]


def _can_be_computed(algorithm: str) -> str:
    if algorithm == "CRC64NVME" and importlib.util.find_spec("awscrt") is None:
        raise ValueError("CRC64NVME needs the Python package awscrt, which is not installed here; write CRC32")
    return algorithm


Checksum = Annotated[Literal["CRC32", "SHA256", "CRC64NVME"], AfterValidator(_can_be_computed)]


class Directory(Section):
    """A directory, and the place in S3 where its files go."""

    path: DirectoryPath = Field(description="The directory.")
    bucket: BucketName = Field(description="The bucket.")
    region: Region | None = Field(default=None, description="The bucket's region; null: found out.")
    expected_bucket_owner: AccountId | None = Field(
        default=None, description="The account that must own the bucket, in quotes; null: any."
    )
    prefix: KeyPrefix = Field(
        default="", description="An object's key is this and the file's path relative to `path`."
    )
    include: tuple[Glob, ...] = Field(default=("**",), min_length=1, description="Patterns of files to send.")
    exclude: tuple[Glob, ...] = Field(
        default=(), description='Patterns of files to leave out, as `["*.tmp", "*.part", ".*"]`.'
    )
    mode: Literal["copy", "mirror", "move"] = Field(
        default="copy",
        description="`copy` never deletes. `mirror` deletes in S3, of what this instance sent, what was deleted "
        "here. `move` deletes here what S3 has confirmed.",
    )
    max_deletes: Percentage = Field(
        default=0.1, description="With `mirror`: a rescan that would delete a larger share is refused, and says so."
    )
    settle: Duration = Field(
        default=2.0, description="How long a file must be quiet since its last change before it is sent."
    )
    rescan: Annotated[float, Seconds("1s", "30d")] = Field(
        default=300.0,
        description="How often the whole tree is checked beside the file system's events; less often, up to 15m, "
        "while nothing changes.",
    )
    follow_symlinks: bool = Field(
        default=False, strict=True, description="Follow symbolic links, and only to targets inside the directory."
    )
    checksum: Checksum = Field(
        default="CRC32",
        description="The checksum by which S3 checks what arrives: CRC32, SHA256, or CRC64NVME where the Python "
        "package awscrt is installed.",
    )
    overwrite: bool = Field(
        default=True,
        strict=True,
        description="Replace objects. `false` sends `If-None-Match: *`, so that the first writer wins.",
    )
    storage_class: Literal[
        "STANDARD",
        "STANDARD_IA",
        "ONEZONE_IA",
        "INTELLIGENT_TIERING",
        "GLACIER_IR",
        "GLACIER",
        "DEEP_ARCHIVE",
        "REDUCED_REDUNDANCY",
        "EXPRESS_ONEZONE",
    ] = Field(default="STANDARD", description="S3's storage class.")
    kms_key: KeyName | None = Field(
        default=None,
        description="The KMS key (id, ARN or alias) that encrypts the objects; null: as the bucket says.",
    )
    cache_control: HeaderText | None = Field(default=None, description="The objects' Cache-Control.")
    content_type: Mapping[Glob, ContentType] = Field(
        default={}, description="The objects' Content-Type by pattern, the first that fits; else by the file's name."
    )
    tags: Mapping[TagKey, ObjectTag] = Field(
        default={}, max_length=_OBJECT_TAGS_MAX, description="The objects' tags."
    )
    metadata: Mapping[MetadataKey, ObjectMetadata] = Field(
        default={}, description='The objects\' metadata, as `{instance-id: "{instance_id}"}`.'
    )


class Uploads(Section):
    """Directories whose files are kept in S3."""

    concurrency: int = Field(default=8, strict=True, ge=1, le=256, description="How many files are sent at once.")
    part_size: Annotated[int, Bytes("5MiB", "5GiB")] = Field(
        default=16 << 20,
        description="The size of a part of a large file; it grows with the file. Parts are streamed, never held.",
    )
    max_bandwidth: Annotated[int, Bytes("1KiB", "1TiB")] | None = Field(
        default=None, description="Bytes per second, as `50MiB`; null: no limit."
    )
    role_arn: RoleArn | None = Field(default=None, description="A role for these calls instead of `aws.role_arn`.")
    directories: tuple[Directory, ...] = Field(default=(), description="The directories.")
