"""Autoencoder, diffusion and sampling."""
