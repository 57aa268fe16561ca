"""The node's own account of requests, and what is told of it: /metrics, /traffic, /requests."""
