"""Every search under every judge, at equal cost, against an oracle that guides none of them."""
