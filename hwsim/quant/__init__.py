"""Number formats and post-training quantizers."""
