"""What sits inside the UNet during an edit: processors that read its attention, and how they come and go."""

from semantic_edit.attention_processors.borrowing import BorrowedNetwork, frozen
from semantic_edit.attention_processors.capture import captured_cross_attention
from semantic_edit.attention_processors.locks import lock_of

__all__ = ["BorrowedNetwork", "captured_cross_attention", "frozen", "lock_of"]
