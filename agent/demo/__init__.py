"""`outlive demo`: the real agent on a stage, with trouble on the way, and a check from outside at the end."""
