"""A changed configuration, taken in by the running agent: read and checked whole, then applied, or refused whole."""
