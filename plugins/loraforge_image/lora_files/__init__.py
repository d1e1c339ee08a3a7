# SPDX-License-Identifier: Apache-2.0
"""LoRA files of any program, read without trusting them: their modules, what each does to its layer, and how it is called here."""
