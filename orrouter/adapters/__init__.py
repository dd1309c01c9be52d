"""Floor 6: a router in the shape of other libraries' clients."""
