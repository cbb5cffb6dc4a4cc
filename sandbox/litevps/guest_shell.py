"""The scripted shell of a machine: a dozen harmless commands over its disk. Nothing of a client's is ever executed.

It understands quotes, `;`, `&&`, `||`, `>` and `>>`; what it does not know is `not found`, exit code 127. A command
takes business time only by `sleep` or by a script.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sandbox.litevps.disks import PathError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandbox.litevps.disks import Disks

DENIED = ("rm -rf /", "mkfs", "dd if=", ":(){ :|:& };", "shutdown", "reboot", "poweroff", "halt")
_JOINS = (";", "&&", "||")
_FIXED = {
    "whoami": "root\n",
    "pwd": "/root\n",
    "id": "uid=0(root) gid=0(root) groups=0(root)\n",
    "uptime": " 10:35:12 up 1 min,  0 users,  load average: 0.00, 0.00, 0.00\n",
    "df": "Filesystem      Size  Used Avail Use% Mounted on\n/dev/vda1       9.6G  1.6G  8.0G  17% /\n",
    "free": "               total        used        free\nMem:          498000      120000      378000\n",
    "apt-get": "Reading package lists... Done\n",
    "true": "",
}


@dataclass(slots=True)
class Result:
    """What a command line did."""

    stdout: str = ""
    stderr: str = ""
    exit_code: int = 0
    duration_s: float = field(default=0.01)


def denied(command: str) -> str | None:
    """The denylist's entry that is somewhere in the command; a plain search for text, as the vendor's is."""
    return next((entry for entry in DENIED if entry in command), None)


class GuestShell:
    """Runs command lines against machines' disks."""

    def __init__(self, disks: Disks, scripts: Mapping[str, Mapping[str, Any]]) -> None:
        self._disks = disks
        self.scripts = {text: Result(**script) for text, script in scripts.items()}

    def run(self, machine_id: str, command: str) -> Result:
        """The outcome of a command line; never raises for what a client wrote."""
        scripted = self.scripts.get(command)
        if scripted is not None:
            return Result(scripted.stdout, scripted.stderr, scripted.exit_code, scripted.duration_s)
        try:
            lexer = shlex.shlex(command, posix=True, punctuation_chars=";&|>")
            lexer.whitespace_split = True
            words = list(lexer)
        except ValueError as error:
            return Result(stderr=f"sh: 1: Syntax error: {error}\n", exit_code=2)
        total, part, join = Result(), [], ";"
        for word in [*words, ";"]:
            if word not in _JOINS:
                part.append(word)
                continue
            wanted = join == ";" or (join == "&&") == (total.exit_code == 0)
            if part and wanted:
                self._add(total, self._redirected(machine_id, part))
            part, join = [], word
        return total

    @staticmethod
    def _add(total: Result, done: Result) -> None:
        total.stdout += done.stdout
        total.stderr += done.stderr
        total.exit_code = done.exit_code
        total.duration_s += done.duration_s

    def _redirected(self, machine_id: str, words: list[str]) -> Result:
        for mark in (">>", ">"):
            if mark in words:
                at = words.index(mark)
                done = self._one(machine_id, words[:at])
                if len(words) != at + 2:
                    return Result(stderr="sh: 1: Syntax error: redirection\n", exit_code=2)
                try:
                    self._disks.write(machine_id, _whole(words[at + 1]), done.stdout.encode(), append=mark == ">>")
                except PathError as error:
                    return Result(stderr=f"sh: 1: {error}\n", exit_code=2)
                done.stdout = ""
                return done
        return self._one(machine_id, words)

    def _one(self, machine_id: str, words: list[str]) -> Result:
        name, rest = (words[0], words[1:]) if words else ("true", [])
        if name in _FIXED:
            return Result(stdout=_FIXED[name])
        action = {
            "echo": self._echo,
            "cat": self._cat,
            "ls": self._ls,
            "sleep": self._sleep,
            "exit": self._exit,
            "false": self._false,
            "uname": self._uname,
            "hostname": self._hostname,
        }.get(name)
        if action is None:
            return Result(stderr=f"sh: 1: {name}: not found\n", exit_code=127)
        return action(machine_id, rest)

    @staticmethod
    def _echo(_machine_id: str, rest: list[str]) -> Result:
        return Result(stdout=" ".join(rest) + "\n")

    @staticmethod
    def _false(_machine_id: str, _rest: list[str]) -> Result:
        return Result(exit_code=1)

    @staticmethod
    def _sleep(_machine_id: str, rest: list[str]) -> Result:
        try:
            return Result(duration_s=max(0.0, float(rest[0])))
        except (IndexError, ValueError):
            return Result(stderr="sleep: invalid time interval\n", exit_code=1)

    @staticmethod
    def _exit(_machine_id: str, rest: list[str]) -> Result:
        return Result(exit_code=int(rest[0]) % 256 if rest and rest[0].isdecimal() else 0)

    def _uname(self, machine_id: str, rest: list[str]) -> Result:
        if "-a" not in rest:
            return Result(stdout="Linux\n")
        host = self._hostname(machine_id, []).stdout.strip()
        return Result(stdout=f"Linux {host} 5.15.0-105-generic #115-Ubuntu SMP x86_64 GNU/Linux\n")

    def _hostname(self, machine_id: str, _rest: list[str]) -> Result:
        return Result(stdout=(self._disks.read(machine_id, "/etc/hostname") or b"localhost\n").decode())

    def _cat(self, machine_id: str, rest: list[str]) -> Result:
        done = Result()
        for path in rest:
            content = self._disks.read(machine_id, _whole(path))
            if content is None:
                done.stderr += f"cat: {path}: No such file or directory\n"
                done.exit_code = 1
            else:
                done.stdout += content.decode(errors="replace")
        return done

    def _ls(self, machine_id: str, rest: list[str]) -> Result:
        path = next((word for word in rest if not word.startswith("-")), "/root")
        names = self._disks.names(machine_id, _whole(path))
        if names is None:
            return Result(stderr=f"ls: cannot access '{path}': No such file or directory\n", exit_code=2)
        return Result(stdout="".join(f"{name}\n" for name in names))


def _whole(path: str) -> str:
    return path if path.startswith("/") else f"/root/{path}"
