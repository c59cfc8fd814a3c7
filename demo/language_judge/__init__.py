"""A tiny vision-language judge of bears: a small Qwen2.5-VL with a vocabulary of its own."""
