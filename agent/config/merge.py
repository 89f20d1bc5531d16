"""Several files into one tree: maps merge, lists append, and of a scalar that is set twice the last wins."""

from __future__ import annotations

from agent.config.document import Node
from agent.config.errors import Finding


class Merger:
    """Takes trees in order; `root` is their sum. It takes the trees over: they must not be used any more."""

    def __init__(self) -> None:
        self.root: Node | None = None
        self.problems: list[Finding] = []
        self.notes: list[Finding] = []

    def add(self, root: Node) -> None:
        self.root = root if self.root is None else self._merged(self.root, root, "")

    def _merged(self, old: Node, new: Node, key: str) -> Node:
        if isinstance(old.value, dict) and isinstance(new.value, dict):
            return self._merged_maps(old, new, key)
        if isinstance(old.value, list) and isinstance(new.value, list):
            old.value.extend(new.value)
            return old
        if old.value is None or new.value is None:
            return self._filled(old, new, key)
        if isinstance(old.value, (dict, list)) or isinstance(new.value, (dict, list)):
            kinds = f"{_kind(new)} here, and {_kind(old)} in {old.where.file}:{old.where.line}"
            self.problems.append(new.where.finding(f"{kinds}; they can't be merged", key))
            return old
        place = f"{old.where.file}:{old.where.line}"
        self.notes.append(new.where.finding(f"is set in {place} too; the value from here counts", key))
        return new

    def _merged_maps(self, old: Node, new: Node, key: str) -> Node:
        assert isinstance(old.value, dict)
        assert isinstance(new.value, dict)
        for name, node in new.value.items():
            if name in old.value:
                old.value[name] = self._merged(old.value[name], node, f"{key}.{name}" if key else name)
            else:
                old.value[name], old.keys[name] = node, new.keys[name]
        return old

    def _filled(self, old: Node, new: Node, key: str) -> Node:
        """An empty value never takes a map or list away: that would be a file whose entries are commented out."""
        if old.value is None:
            return new
        if isinstance(old.value, (dict, list)):
            message = f"is empty here, which changes nothing of what {old.where.file}:{old.where.line} says"
            self.notes.append(new.where.finding(message, key))
            return old
        self.notes.append(new.where.finding(f"takes back the value of {old.where.file}:{old.where.line}", key))
        return new


def _kind(node: Node) -> str:
    return "a map" if isinstance(node.value, dict) else "a list" if isinstance(node.value, list) else "a single value"
