"""The one exception for mistakes a user can mend."""

from __future__ import annotations


class InputError(ValueError):
    """Bad input, told in one line that names the file and the mend.

    The command line prints the message alone (no traceback) and exits with code 2; Python callers
    catch it as a ``ValueError``. Anything else that escapes is a bug in segspn, not in the input.
    """
