"""AWS's documented limits, each with the page that states it. Sizes in bytes, times in seconds."""

from __future__ import annotations

# PutLogEvents: docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html
LOG_BATCH_BYTES = 1_048_576  # sum of messages in UTF-8 plus LOG_EVENT_OVERHEAD for each
LOG_EVENT_OVERHEAD = 26
LOG_BATCH_EVENTS = 10_000
LOG_EVENT_BYTES = 1_048_576 - LOG_EVENT_OVERHEAD  # the longest message, alone in its batch
LOG_BATCH_SPAN_MS = 24 * 3600 * 1000  # between the first and the last event of a batch

# PutMetricData: docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricData.html
METRIC_BATCH_DATUMS = 1_000
METRIC_BATCH_BYTES = 1_000_000  # of the POST body
METRIC_VALUES = 150  # distinct values of one datum
METRIC_DIMENSIONS = 30
METRIC_DIMENSION_NAME = 255  # characters
METRIC_DIMENSION_VALUE = 1_024  # characters
METRIC_NAME = 255  # characters
METRIC_LARGEST = 2.0**360  # magnitude of a value
METRIC_OLDEST = 14 * 86400
METRIC_NEWEST = 2 * 3600

# S3: docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
PART_BYTES_MIN = 5 << 20  # but for the last part
PART_BYTES_MAX = 5 << 30
PARTS_MAX = 10_000
OBJECT_BYTES_MAX = 5 << 40
KEY_BYTES_MAX = 1_024

# RecordLifecycleActionHeartbeat: docs.aws.amazon.com/autoscaling/ec2/userguide/lifecycle-hooks.html
HEARTBEAT_TIMEOUT_MIN = 30
HEARTBEAT_TIMEOUT_DEFAULT = 3_600
