"""Readers of published checkpoints: a file in, a denoiser out; nothing in a file is run."""
