"""Types of names that others define: AWS's, HTTP's, the system's. Each is text of a fixed shape.

Sources of the shapes: the API references of IAM, KMS, SQS, Elastic Load Balancing, DynamoDB and CloudWatch, and S3's
user guide (bucket naming rules).
"""

from __future__ import annotations

from typing import Annotated

from agent.config.markers import OneOf, Shape, words
from agent.config.places import Place, Placed, Uses

_PARTITION = "arn:aws[a-z-]*"
_REGION = "[a-z]{2,5}(?:-[a-z]+)+-[0-9]{1,2}"
_ACCOUNT = "[0-9]{12}"
_BUCKET = r"(?!.*\.\.)(?![0-9.]+$)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"

Text = Annotated[str, Shape("text", r"[^\x00-\x1f\x7f]+", "orders", rule="not empty, and without control characters")]
Region = Annotated[str, Shape("AWS region", _REGION, "eu-west-1")]
AccountId = Annotated[str, Shape("account id", _ACCOUNT, '"123456789012"', rule="twelve digits, in quotes")]
RoleArn = Annotated[
    str,
    Shape("role ARN", rf"{_PARTITION}:iam::{_ACCOUNT}:role/[\w+=,.@/-]+", "arn:aws:iam::123456789012:role/outlive"),
]
ExternalId = Annotated[str, Shape("external id", r"[\w+=,.@:/-]{2,1224}", "shop-42", secret=True)]
KeyArn = Annotated[
    str,
    Shape(
        "KMS key ARN",
        f"{_PARTITION}:kms:{_REGION}:{_ACCOUNT}:key/[A-Za-z0-9-]+",
        "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab",
    ),
]
KeyName = Annotated[
    str,
    Shape(
        "KMS key",
        rf"(?:{_PARTITION}:kms:{_REGION}:{_ACCOUNT}:)?(?:key/|alias/)?[A-Za-z0-9/_-]+",
        "alias/shop",
        rule="its id, its ARN, or alias/NAME",
    ),
]
TargetGroupArn = Annotated[
    str,
    Shape(
        "target group ARN",
        f"{_PARTITION}:elasticloadbalancing:{_REGION}:{_ACCOUNT}:targetgroup/[A-Za-z0-9-]{{1,32}}/[0-9a-f]{{16}}",
        "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/shop/0123456789abcdef",
    ),
]
BucketName = Annotated[
    str, Shape("S3 bucket name", _BUCKET, "shop-state", rule="3 to 63 of a-z, 0-9, dot and hyphen")
]
QueueName = Annotated[
    str,
    Shape(
        "SQS queue",
        r"(?!.*\.fifo$)(?:https?://[^\s/]+/(?:[^\s/]+/)?)?[A-Za-z0-9_-]{1,80}",
        "shop-drain",
        rule="the name or URL of a standard queue; FIFO queues take no such messages",
    ),
]
HookName = Annotated[str, Shape("lifecycle hook name", r"[A-Za-z0-9_/-]{1,255}", "drain")]
SessionTarget = Annotated[
    str,
    Shape(
        "session store",
        r"dynamodb:[A-Za-z0-9_.-]{3,255}|rediss?://(?:[^\s/@]*@)?[^\s/@:]+(?::[0-9]{1,5})?(?:/[0-9]{1,3})?",
        '"dynamodb:sessions" or "redis://cache.internal:6379/0"',
        secret=True,  # a URL may hold a password
    ),
]
HttpUrl = Annotated[str, Shape("http URL", r"https?://[^\s/?#@]+(?:[/?][^\s#]*)?", "http://127.0.0.1:9100/metrics")]
ContentType = Annotated[str, Shape("content type", r"[\w.+-]+/[\w.+-]+(?:;[\x20-\x7e]+)?", "image/webp")]
HeaderText = Annotated[
    str, Shape("header value", r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?", "no-cache", rule="printable ASCII")
]
MetricName = Annotated[
    str, Shape("metric name", r"(?!:)[\x20-\x7e]{1,255}", "nginx_5xx", rule="1 to 255 printable ASCII characters")
]
DimensionName = Annotated[
    str,
    Shape(
        "dimension name", r"(?![:\s]+)[\x20-\x7e]{1,255}", "InstanceId", rule="1 to 255 printable ASCII characters"
    ),
]
TagKey = Annotated[
    str,
    Shape(
        "tag key",
        r"(?!aws:)[\w .:/=+@-]{1,128}",
        "team",
        rule="at most 128 letters, digits, spaces and _.:/=+-@, and not aws:",
    ),
]
MetadataKey = Annotated[
    str, Shape("metadata key", r"[a-z0-9_-]{1,128}", "instance-id", rule="lower case letters, digits, - and _")
]
UserName = Annotated[str, Shape("user name or id", r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}", "shop")]
InstanceId = Annotated[
    str, Shape("instance id", r"[A-Za-z0-9][A-Za-z0-9.-]{0,127}", "web-1", rule="letters, digits, dots and hyphens")
]
ShortName = Annotated[
    str,
    Shape("short name", r"[A-Za-z0-9_.-]{1,64}", "stop-app", rule="letters, digits, dots, hyphens and underscores"),
]

LogGroup = Annotated[str, Placed(Place.LOG_GROUP, Uses.DATE)]
FileLogGroup = Annotated[str, Placed(Place.LOG_GROUP, Uses.FILE)]
LogStream = Annotated[str, Placed(Place.LOG_STREAM, Uses.DATE)]
FileLogStream = Annotated[str, Placed(Place.LOG_STREAM, Uses.FILE)]
Topic = Annotated[str, Placed(Place.TOPIC)]
TagValue = Annotated[str, Placed(Place.TAG)]
DimensionValue = Annotated[str, Placed(Place.DIMENSION)]

StandardUnit = Annotated[
    str,
    OneOf(
        "CloudWatch unit",
        words(
            "Seconds Microseconds Milliseconds Bytes Kilobytes Megabytes Gigabytes Terabytes Bits Kilobits Megabits "
            "Gigabits Terabits Percent Count Bytes/Second Kilobytes/Second Megabytes/Second Gigabytes/Second "
            "Terabytes/Second Bits/Second Kilobits/Second Megabits/Second Gigabits/Second Terabits/Second "
            "Count/Second None"
        ),
    ),
]
