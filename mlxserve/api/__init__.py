"""HTTP: requests, answers, SSE, errors. Text in, text out."""
