"""The demo: tiny trained models, and tasks for them."""
