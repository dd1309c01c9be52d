"""Floor 3: the layers. One file a kind; each is `async (call, forward) -> Reply` and reads like its sentence."""
