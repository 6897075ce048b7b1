"""The one form every message about bad input takes."""


class InputError(Exception):
    """Something the user gave is wrong; the message says where, what was got, and what to do.

    Args:
        where: the file, config field, tensor or sample id that the problem is in.
        problem: what is wrong with it, in a short clause.
        got: the offending value, shown as it is.
        expected: what would have been right.
        fix: the next step, as an imperative sentence.
    """

    def __init__(
        self,
        where: str,
        problem: str,
        *,
        got: object = None,
        expected: object = None,
        fix: str | None = None,
    ) -> None:
        self.where = where
        self.problem = problem
        self.got = got
        self.expected = expected
        self.fix = fix
        super().__init__(where, problem)

    def __str__(self) -> str:
        facts = [
            f"{label} {value}"
            for label, value in (("got", self.got), ("expected", self.expected))
            if value is not None
        ]
        detail = f" ({'; '.join(facts)})" if facts else ""
        advice = f". {self.fix}" if self.fix else ""
        return f"{self.where}: {self.problem}{detail}{advice}"


class DataError(InputError):
    """The samples, or the place they come from, cannot be used."""
