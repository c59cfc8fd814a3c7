"""The wire formats of servers: what a request looks like, and what its answer means."""
