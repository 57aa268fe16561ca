"""Where a model comes from: a hub id, a folder, a GGUF file, the packaged demo."""
