"""How the models that come with the sources were trained: run from a checkout, and installed nowhere."""
