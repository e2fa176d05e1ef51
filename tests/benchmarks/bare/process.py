"""What the bare pipeline's processes take over from Pointsman's: the interpreter's settings that
cost nothing to have.
"""

import gc
import sys

from shared.process import NEW_OBJECTS, SWITCH_SECONDS


def settle(**_event) -> None:
    """Leave what was loaded out of later collections of garbage, make these fewer, and turns of
    threads shorter.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.collect()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS, *gc.get_threshold()[1:])
