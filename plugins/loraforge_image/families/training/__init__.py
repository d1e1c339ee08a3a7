"""What a picture with its caption becomes before the denoiser sees it: views, weights, texts, noise."""
