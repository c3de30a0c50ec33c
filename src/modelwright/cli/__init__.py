"""The command line: one command per step of the life. Results go to standard output, progress to standard error; --json prints one JSON object.

Nothing heavy is imported before a command needs it, so that `--help` answers at once.
"""

import typer

from . import audit, life, lists, registry, versions
from .exits import run

app = typer.Typer(
    help="From raw data to a model that you can defend.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: importing rich would double the time that it takes
    context_settings={"max_content_width": 120},
)
COMMANDS = (
    *(life.new, life.plan, life.run, life.predict, audit.audit, life.clean, life.compare, life.demo),
    *(lists.policy, lists.components, lists.schema),
    *(versions.register, versions.promote, versions.rollback, versions.export),
)
for command in COMMANDS:
    app.command()(command)
app.add_typer(registry.group, name="registry")


def main() -> None:
    run(app)
