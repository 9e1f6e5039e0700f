"""How many examples of anything at all a test looks at: all of them in the long run, a quarter in the ordinary one."""

import os

IS_WHOLE = os.environ.get("SCREENING_STORM") == "1"


def examples(whole: int) -> int:
    """Whoever asks is a long check and bears the mark `storm`."""
    return whole if IS_WHOLE else whole // 4
