"""Become another program that ends with the process that started it, optionally as another user.

    python -I -S tied.py PARENT_PID SIGNAL USER PROGRAM [ARGUMENT ...]

The kernel sends SIGNAL when the parent dies, however it dies. A function run between fork and exec could ask for that,
too, but is unsafe in a process with threads (tests have them), and a change of user would drop the request: here it
comes last. USER is `-` for no change.
"""

import ctypes
import os
import pwd
import sys

PR_SET_PDEATHSIG = 1


def main(parent: int, signal_number: int, user: str, program: list[str]) -> None:
    if user != "-":
        account = pwd.getpwnam(user)
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal_number)
    # The parent may have died before the request: then nobody would ever send the signal.
    if os.getppid() != parent:
        sys.exit(1)
    os.execv(program[0], program)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:])
