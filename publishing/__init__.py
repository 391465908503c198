"""What leaves the house: one self-contained file per pipeline, cards, and uploads to the Hub."""
