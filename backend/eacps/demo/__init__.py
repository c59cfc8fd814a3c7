"""The demo: tiny trained models, and the tasks that they know."""
