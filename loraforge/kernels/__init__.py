# SPDX-License-Identifier: Apache-2.0
"""What computes the same as torch and peft, in less time and memory. Its modules import torch when they are imported."""
