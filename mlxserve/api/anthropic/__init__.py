"""Anthropic's Messages API, on the same questions and answers as OpenAI's."""
