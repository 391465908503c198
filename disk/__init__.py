"""How anything is kept on a disk: written whole or not at all, and read with suspicion."""
