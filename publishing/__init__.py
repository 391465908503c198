"""What is published: one self-contained file per pipeline, cards, and repositories on the Hub."""
