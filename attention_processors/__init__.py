"""What sits inside the UNet during an edit: what reads and changes its attention, and how it comes and goes."""
