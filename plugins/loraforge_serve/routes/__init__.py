# SPDX-License-Identifier: Apache-2.0
"""What can be asked over HTTP, a file for each subject. These modules import fastapi when they are imported: load them inside functions."""
