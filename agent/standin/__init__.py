"""Strict stand-ins for the AWS services and instance metadata, over HTTP: the demo and the tests run on them."""
