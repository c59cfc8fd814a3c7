"""What each family of diffusers pipelines wants to be called with."""
