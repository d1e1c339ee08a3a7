"""What can be asked over HTTP, a file for each subject. These modules import fastapi when they are imported: load them inside functions."""
