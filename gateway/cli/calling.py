"""An operator's verb as it runs: arguments in, one call, its answer out.

Must not know any verb.  Theory: a verb's row says all that sets it apart, so one function runs them all.
"""

import argparse
from typing import TYPE_CHECKING

from gateway.cli.exits import Exit
from gateway.cli.operate import call
from gateway.cli.output import print_json
from gateway.cli.setting import read_config

if TYPE_CHECKING:
    from gateway.cli.verbs_operator import Verb

_OURS = frozenset({"config", "json", "version", "work", "verb"})
"""What the command line itself takes or sets; everything else was added by the verb, named as its call takes it."""


def run_verb(arguments: argparse.Namespace) -> Exit:
    """Run a verb's call and print its answer. Raises CliError."""
    verb: Verb = arguments.verb
    given = {name: value for name, value in vars(arguments).items() if name not in _OURS and value is not None}
    answer = call(read_config(arguments.config), verb.operation, given)
    if arguments.json:
        print_json(answer)
    else:
        print("\n".join(verb.shape(answer)))
    return Exit.OK
