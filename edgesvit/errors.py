"""The errors a user can meet, each with the exit code the command line gives it."""


class EdgesvitError(Exception):
    """Something failed: what and where in `message`, the next thing to type in `hint`."""

    exit_code = 1

    def __init__(self, message: str, hint: str = ""):
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(EdgesvitError):
    """The command line, a file or a configuration value cannot be used as given."""

    exit_code = 2


class DoesNotFit(EdgesvitError):
    """The model does not fit the target's memory, or a constraint cannot be met."""

    exit_code = 3


class Unreachable(EdgesvitError):
    """A board, an emulator or a meter did not answer, or stopped answering."""

    exit_code = 4


class ResultDiffers(EdgesvitError):
    """The board computed something other than the host, or a checkpoint than the official code."""

    exit_code = 5
