"""The command line. Everything that is printed for people is printed here."""
