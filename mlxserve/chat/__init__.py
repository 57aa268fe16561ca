"""`mlxserve chat`: a conversation with any server that has OpenAI's API, in the terminal."""
