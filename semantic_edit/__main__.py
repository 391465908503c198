"""`python -m semantic_edit` is the command `semantic-edit`."""

import sys

from semantic_edit.cli import main

if __name__ == "__main__":
    sys.exit(main())
