"""Compares all searches with all judges at equal cost, by an oracle that guides none of them."""
