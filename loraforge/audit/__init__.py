# SPDX-License-Identifier: Apache-2.0
"""Whether anything of a finished run was altered: ``verify``, and the model card."""
