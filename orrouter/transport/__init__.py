"""Floor 3: the only sockets toward upstreams, and the laws of whoever answers."""
