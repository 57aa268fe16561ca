"""OpenAI's Responses API: from a request's items to an answer's, and what is kept of both."""
