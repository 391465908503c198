"""Thousands of edits over many processes and machines: each row once, whatever ends the processes in between."""
