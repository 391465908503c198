"""How things are kept on disk: written completely or not at all, and never trusted when read."""
