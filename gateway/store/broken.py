"""What a book that may not be trusted raises.

Must not know what was checked.  Theory: every check of the rows on disk ends in the same one error, which stops the start.
"""


class BookBroken(RuntimeError):  # noqa: N818 - named for what the operator reads
    """The rows on disk contradict each other. Nothing may be decided on them."""
