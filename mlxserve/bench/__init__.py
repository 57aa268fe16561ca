"""`mlxserve bench`: how fast a server with OpenAI's API answers, and which of two is faster."""
