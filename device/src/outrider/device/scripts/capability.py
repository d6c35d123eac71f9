"""Scripts as a capability of a device: what must be there for it, and on which brokers it is given."""

import contextlib
import hashlib
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from ipaddress import ip_address

from msgspec import json

from outrider.device.address import Address
from outrider.device.definition import Definition
from outrider.device.journal_file import state_folder

from .cgroups import delegated
from .commands import ScriptCommands
from .contract import POOL
from .environments import Environments
from .installer import Installer
from .interpreter import Interpreter, check_folders, find_interpreter
from .limits import allow_files
from .places import place
from .refusals import InsecureBroker
from .sandbox import Sandbox, find_sandbox, script_user
from .settings import Settings
from .workspace import Workspaces

logger = logging.getLogger("outrider.device")


class Scripts(Settings, frozen=True, kw_only=True):
    """Lets who commands a device run scripts on it, locked in: `Scripts(network=True).include_in(lamp)`.

    Its parameters are those of `Settings`.
    """

    def include_in(self, device: Definition) -> None:
        """Give a device the commands `run_script`, `fetch_file`, `list_files` and `purge`; it joins the pool `scripts`.

        When it is served, the broker must be on this machine, or reached by TLS with credentials.

        :raises SandboxMissing: nothing here can lock scripts in.
        :raises NoInterpreter: no Python here can be run by the user whom scripts get.
        :raises PackagesUnavailable: packages are allowed, and uv is missing.
        """
        user = script_user()
        sandbox = find_sandbox(self.sandbox)
        interpreter = find_interpreter(self.python, user)
        installer = Installer(interpreter, index=self.index, most=self.packages_size) if self.packages else None
        commands = ScriptCommands(self, sandbox, interpreter, max_size=device.max_size)
        device.command(timeout=self.timeout, max_parallel=self.parallel, private=True)(commands.run_script)
        device.command(idempotent=True)(commands.fetch_file)
        device.command(idempotent=True)(commands.list_files)
        device.command(commands.purge)
        device.pools = tuple(dict.fromkeys((*device.pools, POOL)))
        device.before_serving(self._opening(device, sandbox, commands, interpreter, installer, user))

    def _opening(
        self,
        device: Definition,
        sandbox: Sandbox,
        commands: ScriptCommands,
        interpreter: Interpreter,
        installer: Installer | None,
        user: int | None,
    ) -> Callable[[Address, str], AbstractContextManager[object]]:
        def open(address: Address, prefix: str) -> AbstractContextManager[object]:
            check_broker(address)
            allow_files()
            delegated()
            folder = place(self.folder, user)
            check_folders(interpreter, (folder, state_folder()))
            own = folder / "workspaces" / folder_of(device.id, prefix, address)
            workspaces = Workspaces(own, user=user, quota=self.quota, files=self.files, patterns=self.patterns)
            environments = None
            if installer is not None:
                environments = Environments(folder / "packages", installer, most=self.packages_size)
            commands.open(workspaces, environments)
            rights = "its own rights" if user is None else f"the rights of user {user}"
            logger.info(
                "%s runs scripts in %s with %s and %s; their workspaces are in %s",
                *(device.id, sandbox.name, interpreter.path, rights, own),
            )
            return contextlib.closing(workspaces)

        return open


def folder_of(device: str, prefix: str, address: Address) -> str:
    """The name of a device's folder for workspaces: another one for each broker, where names mean other requesters."""
    broker = sorted((each.host, each.port, each.path if each.kind == "unix" else "") for each in address.each)
    digest = hashlib.sha256(json.encode((device, prefix, broker))).hexdigest()
    return f"{device}+{digest[:32]}"


def check_broker(address: Address) -> None:
    """See that nobody else can send scripts by way of a broker.

    :raises InsecureBroker: it is on another machine, and not reached by TLS with credentials.
    """
    if address.kind == "unix" or all(_is_here(each.host) for each in address.each):
        return
    known = (address.user is not None and address.password is not None) or address.cert is not None
    if address.tls and known:
        return
    missing = "without credentials" if address.tls else "without TLS"
    raise InsecureBroker(
        f"scripts are allowed, and {address.named} is on another machine and reached {missing}: whoever gets at it "
        "could run code here. Connect by TLS with credentials (mqtts://USER:PASSWORD@HOST, or ?cert=FILE&key=FILE), "
        "use a broker on this machine, or do without --allow-scripts"
    )


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
