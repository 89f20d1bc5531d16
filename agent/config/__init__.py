"""The configuration: its schema, how files become a checked `Config`, and what placeholders stand for.

Entry points: `agent.config.load.load` and `agent.config.placeholders.resolve`.
"""
