"""Directories kept in S3: watch (hints) and scan (truth), settle, transfer, ledger."""
