"""What every generated accelerator shares: fetch, queues and tokens, load, store and vector units."""
