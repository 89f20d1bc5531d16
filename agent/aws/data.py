"""botocore's descriptions of AWS, cut down to what is called here: whole, they cost more memory than all our jobs.

endpoints.json describes 400 services, S3's model more than 100 operations; kept is what the operations below need.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from botocore.loaders import Loader

_OPERATIONS = {
    "autoscaling": (
        "CompleteLifecycleAction DescribeAutoScalingGroups DescribeAutoScalingInstances DescribeLifecycleHooks "
        "RecordLifecycleActionHeartbeat"
    ),
    "cloudwatch": "PutMetricData",
    "logs": "CreateLogGroup CreateLogStream DescribeLogGroups PutLogEvents PutRetentionPolicy",
    "s3": (
        "AbortMultipartUpload CompleteMultipartUpload CreateMultipartUpload GetBucketLocation HeadBucket HeadObject "
        "ListMultipartUploads ListParts PutObject UploadPart"
    ),
    "sts": "AssumeRole GetCallerIdentity",
}


class LeanLoader(Loader):
    """A botocore data loader that forgets what is not used. A service that is called here must be listed above."""

    def load_service_model(self, service_name: str, type_name: str, api_version: str | None = None) -> Any:
        model = super().load_service_model(service_name, type_name, api_version)
        if type_name == "service-2" and service_name in _OPERATIONS:
            _keep_operations(model, set(_OPERATIONS[service_name].split()))
        return model

    def load_data_with_path(self, name: str) -> Any:
        data, path = super().load_data_with_path(name)
        if name == "endpoints":
            for partition in data["partitions"]:
                services = partition["services"]
                partition["services"] = {key: services[key] for key in services if key in _ENDPOINT_NAMES}
        return data, path


_ENDPOINT_NAMES = frozenset([*_OPERATIONS, "monitoring"])  # CloudWatch is called by its endpoint's prefix there


def _keep_operations(model: dict[str, Any], wanted: set[str]) -> None:
    """Drop all other operations, and the shapes that only they used. Done already: nothing to drop."""
    model["operations"] = {name: each for name, each in model["operations"].items() if name in wanted}
    needed: set[str] = set()
    waiting = [name for operation in model["operations"].values() for name in _shapes_of(operation)]
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting.extend(_shapes_of(model["shapes"][name]))
    model["shapes"] = {name: shape for name, shape in model["shapes"].items() if name in needed}


def _shapes_of(node: Any) -> Iterator[str]:
    """Names of the shapes that a piece of a model refers to."""
    if isinstance(node, dict):
        name = node.get("shape")
        if isinstance(name, str):
            yield name
        node = list(node.values())
    if isinstance(node, list):
        for inner in node:
            yield from _shapes_of(inner)
