"""SiloFuse (arXiv 2404.03299): vertical partition, private codes, one upload of latents, one latent diffusion."""
