"""POST /v1/completions: texts that go on from prompts as they are, without a chat's template."""
