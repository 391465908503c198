"""How good the models and methods are, measured where the right answer is known."""
