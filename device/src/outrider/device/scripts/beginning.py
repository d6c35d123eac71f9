"""How a script is begun: the text that was sent with it is run, whatever stands under its name by then.

Two runs of one owner share a workspace, and what is sent there twice under one name is there once. So each run has what
was sent with it in a folder of its own too, to read only, and that is what is run, and imported first. To the script it
is as if it was run from the workspace: its path, its arguments, what else it imports, and the words of its errors.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from .run import WORKSPACE

_BEGIN: Final = """
def begin():
    import os, sys
    sent, path = sys.argv[1:3]
    sys.argv[:] = [path, *sys.argv[3:]]
    sys.path[:1] = [os.path.dirname(sent), os.path.dirname(path)]
    def show(kind, error, trace):
        while trace is not None and trace.tb_frame.f_code.co_filename == "<string>":
            trace = trace.tb_next
        sys.__excepthook__(kind, error.with_traceback(trace), trace)
    sys.excepthook = show
    names = globals()
    del names["begin"]
    names["__file__"] = path
    with open(sent, "rb") as file:
        return compile(file.read(), path, "exec", dont_inherit=True)
exec(begin())
"""


def beginning(sent: Path, main: str, args: Sequence[str]) -> tuple[str, ...]:
    """The interpreter's arguments for a script.

    :param sent: the folder with what was sent.
    :param main: the name of the file in it that is run.
    """
    return "-s", "-u", "-B", "-c", _BEGIN, f"{sent}/{main}", f"{WORKSPACE}/{main}", *args
