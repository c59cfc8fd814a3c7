"""`eacps export`: reviews as a table, with pictures, and as preference pairs."""
