"""``mailproxy completion``: what makes a shell complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


def run(shell: str) -> None:
    """Print the script of a shell."""
    from mailproxy.__main__ import group

    maker = get_completion_class(shell)
    assert maker is not None, shell
    click.echo(maker(group(), {}, "mailproxy", "_MAILPROXY_COMPLETE").source())


completion = click.Command(
    "completion",
    callback=run,
    params=[click.Argument(["shell"], type=click.Choice(["bash", "zsh", "fish"]))],
    help="Print what makes a shell complete our commands and options.\n\n"
    "\b\n"
    'bash: eval "$(mailproxy completion bash)"   in ~/.bashrc\n'
    'zsh:  eval "$(mailproxy completion zsh)"    in ~/.zshrc\n'
    "fish: mailproxy completion fish > ~/.config/fish/completions/mailproxy.fish",
)
