"""Floor 4: a YAML file becomes pipelines, and every mistake in it an error with its place."""
