# SPDX-License-Identifier: Apache-2.0
"""How far drawn pictures are from the training pictures, and how well they follow their prompts."""
