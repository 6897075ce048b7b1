"""The one form every message about bad input takes."""

from collections.abc import Sequence

from data_loaders.printable import printable


class InputError(Exception):
    """Something the user gave is wrong; the message says where, what was got, and what to do.

    Args:
        where: the file, config field, tensor or sample id that the problem is in.
        problem: what is wrong with it, in a short clause.
        got: the offending value, shown as it is.
        expected: what would have been right.
        fix: the next step, as an imperative sentence.
        more: what else is wrong, each with its place: a line each.

    Each part is shown in one line, without control characters and cut where it is very long: names
    and values come from files that anybody may have written.
    """

    def __init__(
        self,
        where: str,
        problem: str,
        *,
        got: object = None,
        expected: object = None,
        fix: str | None = None,
        more: Sequence[str] = (),
    ) -> None:
        self.where = where
        self.problem = problem
        self.got = got
        self.expected = expected
        self.fix = fix
        self.more = tuple(more)
        super().__init__(where, problem)

    def __str__(self) -> str:
        facts = [
            f"{label} {printable(str(value))}"
            for label, value in (("got", self.got), ("expected", self.expected))
            if value is not None
        ]
        detail = f" ({'; '.join(facts)})" if facts else ""
        advice = f". {printable(self.fix)}" if self.fix else ""
        first = f"{printable(self.where)}: {printable(self.problem)}{detail}{advice}"
        return "\n".join([first, *map(printable, self.more)])


class DataError(InputError):
    """The samples, or the place they come from, cannot be used."""
