"""The three wheels, each installed into an empty environment of its own: what comes with it, and what does not."""

import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

ROOT = Path(__file__).parent.parent
PARTS = ("schema", "device", "controller")
ON_A_DEVICE = {"outrider-schema", "outrider-device", "msgspec", "paho-mqtt", "python-statemachine"}

Install = Callable[[str], Path]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the wheels, built as `make dist` builds them."""
    folder = tmp_path_factory.mktemp("wheels")
    run(sys.executable, "-m", "uv", "build", "--quiet", "--no-config", "--all-packages", "--wheel", "--out-dir", folder)
    return folder


@pytest.fixture
def install(wheels: Path, tmp_path: Path) -> Install:
    """Install a distribution into a new environment and return the environment's folder of programs."""

    def into_empty_environment(distribution: str) -> Path:
        venv.create(tmp_path / "environment", with_pip=True, symlinks=True)
        programs = tmp_path / "environment" / "bin"
        constraints = ROOT / "constraints.txt"
        run(programs / "pip", "install", "--quiet", "--find-links", wheels, "--constraint", constraints, distribution)
        return programs

    return into_empty_environment


def run(*command: str | Path) -> str:
    """Return what the command printed; fail with it when the command fails."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def installed(programs: Path) -> set[str]:
    """Return the names of the installed distributions, without what every new environment has."""
    listing = run(programs / "pip", "list", "--format", "freeze", "--disable-pip-version-check")
    return {line.partition("==")[0].lower() for line in listing.splitlines()} - {"pip", "setuptools"}


@pytest.mark.parametrize("part", PARTS)
def test_wheel_is_typed_licensed_and_has_no_namespace_init(wheels: Path, part: str) -> None:
    [wheel] = wheels.glob(f"outrider_{part}-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert f"outrider/{part}/py.typed" in names
    assert "outrider/__init__.py" not in names
    assert [name for name in names if name.endswith("/licenses/LICENSE")]
    beside = ("pytest_outrider/",) if part == "controller" else ()
    others = [name for name in names if not name.startswith((f"outrider/{part}/", f"outrider_{part}-", *beside))]
    assert others in ([], ["outrider/"])


def test_controller_has_the_page_and_its_libraries(wheels: Path) -> None:
    [wheel] = wheels.glob("outrider_controller-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    page = "outrider/controller/hub/pages"
    assert {f"{page}/web/index.html", f"{page}/web/main.js", f"{page}/vendor/preact.js"} <= names
    assert f"{page}/vendor/LICENSES.txt" in names


def test_schema_needs_msgspec_only(install: Install) -> None:
    programs = install("outrider-schema")
    assert installed(programs) == {"outrider-schema", "msgspec"}
    run(programs / "python", "-W", "error", "-c", "import outrider.schema")


def test_device_brings_no_controller(install: Install) -> None:
    programs = install("outrider-device")
    assert installed(programs) == ON_A_DEVICE
    assert "MODULE:NAME" in run(programs / "outrider-device", "run", "--help")
    run(programs / "python", "-c", "import importlib.util as i; assert i.find_spec('outrider.controller') is None")


def test_controller_brings_both_sides_and_no_embedded_broker(install: Install) -> None:
    programs = install("outrider-controller")
    names = installed(programs)
    assert names >= ON_A_DEVICE | {"outrider-controller", "typer"}
    assert "iotcore" not in names
    assert "send" in run(programs / "outrider", "--help")
    run(programs / "python", "-W", "error", "-c", "import outrider.controller, outrider.device, outrider.schema")
