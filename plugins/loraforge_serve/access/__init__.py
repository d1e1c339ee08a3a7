"""Who is let in, and what is written of it."""
