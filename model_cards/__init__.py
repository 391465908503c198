"""The cards' texts and pictures; `semantic_edit.publishing` fills the places in braces and checks them."""
