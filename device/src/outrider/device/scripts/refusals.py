"""Why a device does not take a script: said in words that tell the requester what to do."""

from outrider.schema import LocalError


class ScriptRefused(LocalError, ValueError):
    """A script, a file's name, a requirement or a limit that this device does not take; nothing ran."""


class NoSuchFile(LocalError, LookupError):
    """One's workspace has no file of this name, or what is there is none that can be fetched."""


class PackagesUnavailable(LocalError):
    """What a script needs cannot be installed; the words name the package that was not found."""


class NoInterpreter(LocalError):
    """No Python on this machine can be run by the user that scripts get."""


class UnreachableFolder(LocalError):
    """A folder for what scripts have on the disk that the user whom they get cannot reach."""


class WorkspacesInUse(LocalError):
    """Another process has this device's workspaces: it serves the same device."""


class InsecureBroker(LocalError, ValueError):
    """A broker on which somebody else could send this device scripts."""
