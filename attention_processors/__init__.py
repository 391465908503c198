"""What sits inside the UNet during an edit: what reads and changes its attention, and how it comes and goes."""

from semantic_edit.attention_processors.borrowing import BorrowedNetwork, frozen
from semantic_edit.attention_processors.capture import captured_cross_attention
from semantic_edit.attention_processors.locks import lock_of

__all__ = ["BorrowedNetwork", "captured_cross_attention", "frozen", "lock_of"]
