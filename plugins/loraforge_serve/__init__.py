"""The built-in serve plugin: adapters and their base over OpenAI's HTTP interface."""
