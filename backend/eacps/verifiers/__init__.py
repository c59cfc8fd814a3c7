"""Judges that answer whether an edit was done, and why."""
