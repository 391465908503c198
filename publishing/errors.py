"""What goes wrong while publishing, in words for whoever publishes."""


class PublishError(Exception):
    """Something cannot be published; its text says what, why and what to do, and never holds a token."""
