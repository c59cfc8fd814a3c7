"""One plug-in of each kind for eacps; docs/extending.md builds them step by step."""
