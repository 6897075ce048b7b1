"""What the terminal shows; results go to the output, all else to the other stream."""

from calib.terminal.base import (
    SafeConsole,
    TerminalProgress,
    complain,
    error_console,
    output_console,
    print_diagnosis,
    print_result,
    print_verdict,
    ran_lines,
    say,
)

__all__ = [
    "SafeConsole",
    "TerminalProgress",
    "complain",
    "error_console",
    "output_console",
    "print_diagnosis",
    "print_result",
    "print_verdict",
    "ran_lines",
    "say",
]
