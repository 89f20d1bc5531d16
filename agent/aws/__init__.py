"""AWS: the only importer of boto3 and botocore. One thin client per service, one tree of errors, the limits."""
