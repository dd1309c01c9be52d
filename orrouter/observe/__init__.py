"""Floor 2: who listens to facts. The layers only tell them."""
