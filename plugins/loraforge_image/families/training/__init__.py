# SPDX-License-Identifier: Apache-2.0
"""What a picture with its caption becomes before the denoiser sees it: views, weights, texts, noise."""
