"""The sections of the configuration, one module each; `agent.config.schema` puts them together."""
