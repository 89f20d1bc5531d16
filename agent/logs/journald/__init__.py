"""The systemd journal into CloudWatch Logs: read by journalctl, from a cursor that only acknowledgements move."""
