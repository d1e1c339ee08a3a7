"""``loraforge serve``: the command, and what it starts."""
