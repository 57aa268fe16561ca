"""Between text and tokens: tokenizer, chat template, and the reading of what comes out."""
