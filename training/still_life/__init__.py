"""The still-life model, trained from nothing: `python -m training.still_life all`."""
