# SPDX-License-Identifier: Apache-2.0
"""tiny-sd, the embedded base model: what it is trained on (scenes), how it is made (build), and its files (model/)."""
