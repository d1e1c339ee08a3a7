# SPDX-License-Identifier: Apache-2.0
"""Makes a base fit a card: in fewer bits, with blocks or text encoders in main memory, with the encoders and the denoiser taking turns."""
