"""Metrics: what the machine and its applications measure, into CloudWatch.

collect/ and statsd/ -> aggregate -> encode -> spool -> deliver; `job` holds them together.
"""
