"""The page: edits, learning and restyling in a browser, through the calls that the command line makes."""
