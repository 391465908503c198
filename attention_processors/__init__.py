"""What sits inside the UNet during an edit: processors that read its attention, and how they come and go."""
