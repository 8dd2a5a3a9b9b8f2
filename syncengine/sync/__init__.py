"""One round with the cloud: the only package that knows both sides."""
