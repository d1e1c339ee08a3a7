# SPDX-License-Identifier: Apache-2.0
"""What is known of the optimizers before torch is loaded: where they come from, their arguments, their usual rates, their memory."""
