"""The rule files of the guide's chapter on second owners: each finds a planted one, and nothing in a tree without.

    pip install -r requirements.txt && python owners.py

Takes the files out of the chapter and runs the tools. Exit codes: 0 all passed, 1 something failed.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

CHAPTER = Path(__file__).parents[2] / "runtime/src/guide/second-owners.md"
TOOLS = Path(sys.executable).parent

#: A tree with one owner.
SOUND = {
    "src/registry.rs": "pub struct Registry { slots: HashMap<UserId, Slot> }\n",
    "src/agents.rs": "struct Agents { open: BTreeMap<RunId, UserId>, users: Vec<UserId> }\n",
    "web/registry.ts": "export class Registry { private connections = new Map<ConnectionId, Socket>(); }\n",
    "web/names.ts": "const names = new Map<RunId, UserId>();\n",
    "gateway/__init__.py": "",
    "gateway/registry.py": """
from .owner import Membership, Seal, Socket, UserId

_SEAL: Seal = object.__new__(Seal)


class Registry:
    def __init__(self) -> None:
        self.connections: dict[UserId, dict[int, Socket]] = {}
        self._newest = 0

    def admit(self, user: UserId, socket: Socket) -> Membership:
        self._newest += 1
        self.connections.setdefault(user, {})[self._newest] = socket
        return Membership(_SEAL, user, self._newest)

    def remove(self, membership: Membership) -> None:
        self.connections.get(membership.user, {}).pop(membership.entry, None)

    async def send(self, user: UserId, text: str) -> None:
        for socket in list(self.connections.get(user, {}).values()):
            await socket.send(text)
""",
    "gateway/api.py": """
from .owner import Owner, Sender, Socket, UserId
from .registry import Registry


async def connected(owner: Owner, user: UserId, socket: Socket) -> None:
    owner.remove(owner.admit(user, socket))


async def answer(sender: Sender, user: UserId) -> None:
    await sender.send(user, "hello")


async def serve(user: UserId, socket: Socket) -> None:
    registry = Registry()
    await connected(registry, user, socket)
    await answer(registry, user)
""",
}

#: What is planted, and what its tool says of it. Each tool must find its own, and nothing else.
PLANTED = {
    "src/emergency.rs": (
        "struct Emergency { open: Mutex<std::collections::HashMap<ConnectionId, Socket>> }\n"
        "fn seen() { let all = BTreeSet::<(UserId, u8)>::new(); }\n",
        "ast-grep",
        ["emergency.rs:1:", "emergency.rs:2:"],
    ),
    "web/manager.ts": (
        "class Manager {\n  private open: Map<UserId, Socket[]>;\n  private userSockets = new Map();\n}\n"
        "const names: Record<SessionId, string> = {};\nconst byUser = new Map<UserId, Socket>();\n",
        "ast-grep",
        ["manager.ts:2:", "manager.ts:3:", "manager.ts:5:", "manager.ts:6:"],
    ),
    "gateway/tabs.py": (
        "class Tabs:\n    def __init__(self) -> None:\n        self.active_connections = {}  # type: ignore[var-annotated]\n",
        "ast-grep",
        ["tabs.py:3:"],
    ),
    "gateway/jobs.py": (
        "from .registry import Registry\n\n\ndef size(registry: Registry) -> int:\n    return len(registry.connections)\n",
        "import-linter",
        ["gateway.jobs -> gateway.registry"],
    ),
    "gateway/emergency.py": (
        """from .api import connected
from .owner import Membership, Sender, Socket, UserId


class Emergency:
    def admit(self, user: UserId, socket: Socket) -> Membership:
        return Membership(None, user, 0)

    def remove(self, membership: Membership) -> None: ...


class Degraded:
    def admit(self, user: UserId, socket: Socket) -> int:
        return 0

    def remove(self, membership: int) -> None: ...


async def handler(sender: Sender, user: UserId, socket: Socket) -> None:
    sender.admit(user, socket)
    await connected(Degraded(), user, socket)
""",
        "mypy",
        ["emergency.py:7: error: Argument 1", "emergency.py:20: error: \"Sender\"", "emergency.py:21: error: Argument 1"],
    ),
}

COMMANDS = {
    "ast-grep": ["ast-grep", "scan", "--rule", "second-owners.yml", "--report-style", "short", "."],
    "import-linter": ["lint-imports", "--no-cache"],
    "mypy": ["mypy", "--strict", "--no-error-summary", "gateway"],
}


def write(tree: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text, encoding="utf-8")


def rule_files() -> dict[str, str]:
    """The files that the chapter tells its readers to save."""
    chapter = CHAPTER.read_text(encoding="utf-8")
    block = {language: re.search(f"```{language}\n(.*?)```", chapter, re.S) for language in ("yaml", "ini", "python")}
    names = {"yaml": "second-owners.yml", "ini": ".importlinter", "python": "gateway/owner.py"}
    return {names[language]: found.group(1) for language, found in block.items() if found}


def run(tool: str, tree: Path) -> tuple[int, str]:
    command = [str(TOOLS / COMMANDS[tool][0]), *COMMANDS[tool][1:]]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=300, check=False)
    return done.returncode, done.stdout + done.stderr


def sound(tree: Path) -> None:
    """a tree with one owner passes every tool"""
    for tool in COMMANDS:
        code, said = run(tool, tree)
        assert code == 0, f"{tool}: {said}"


def planted(tree: Path) -> None:
    """each planted owner is found by its tool, and by no line of the owner's file"""
    for name, (text, tool, expected) in PLANTED.items():
        write(tree, {name: text})
        code, said = run(tool, tree)
        (tree / name).unlink()
        missing = [part for part in expected if part not in said]
        assert code == 1 and not missing, f"{tool} of {name}: {missing} in {said}"
        assert "registry.rs:" not in said and "registry.ts:" not in said and "registry.py:" not in said, said


def main() -> int:
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        write(tree, SOUND | rule_files())
        for check in (sound, planted):
            try:
                check(tree)
                print(f"ok      {check.__name__}: {check.__doc__}")
            except (AssertionError, OSError, subprocess.TimeoutExpired) as error:
                failed += 1
                print(f"not ok  {check.__name__}: {type(error).__name__}: {error}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
