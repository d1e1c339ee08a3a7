"""From folders to what is served: reading adapters, telling of their runs, watching a folder."""
