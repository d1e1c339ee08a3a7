"""Whether anything of a finished run was altered: ``verify``, and the model card."""
