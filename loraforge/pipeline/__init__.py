"""From a config to a finished run, step by step; and the same again, to compare."""
