"""What a plugin author writes against, and the host that finds plugins. All of it is public through ``loraforge`` itself."""
