"""Rows of `outlive status --json` and of the receipt, as the job `logs` shows its files."""

from __future__ import annotations

from typing import Any

from agent.engine.files import shown
from agent.logs.cursors import Cursor
from agent.logs.tail import TailedFile


def file_status(file: TailedFile) -> dict[str, Any]:
    """Of one that is open."""
    cursor = file.cursor
    return {
        "path": shown(file.path),
        "group": cursor.group,
        "stream": cursor.stream,
        "size": file.size,
        "read": file.read,
        "acknowledged": cursor.offset,
        "error": file.error,
    }


def resting_status(cursor: Cursor) -> dict[str, Any]:
    """Of one that is closed for want of descriptors."""
    offset = cursor.offset
    return {
        "path": shown(cursor.path),
        "group": cursor.group,
        "stream": cursor.stream,
        "size": offset,
        "read": offset,
        "acknowledged": offset,
        "error": None,
    }


def trouble_status(path: str, size: int, error: str) -> dict[str, Any]:
    """Of one that is meant and not open."""
    return {
        "path": shown(path),
        "group": "",
        "stream": "",
        "size": size,
        "read": 0,
        "acknowledged": 0,
        "error": error,
    }


def receipt_row(cursor: Cursor) -> dict[str, Any]:
    """Of one generation."""
    return {
        "path": shown(cursor.path),
        "device": cursor.locator.device,
        "inode": cursor.locator.inode,
        "size": cursor.size,
        "read": cursor.read,
        "acknowledged": cursor.offset,
        "events": cursor.events,
        "refused": cursor.refused,
        "digest": cursor.digest,
    }
