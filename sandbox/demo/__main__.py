"""Runs the demo: `python -m sandbox.demo [--vendor NAME] [--only SCENE,…] [--keep]`, as `make demo` does.

Exits 0 when every scene went as it must and the books balance to the last unit, 1 in any other case.
"""

import argparse
import http.client
import subprocess
import sys

from aiohttp import ClientError

from gateway_client import GatewayProblem
from sandbox.anvil import RpcError
from sandbox.demo import books, interrupts
from sandbox.demo.checks import DemoFailure
from sandbox.demo.scenes import ANY, SCENES, Scene
from sandbox.demo.screen import Screen
from sandbox.demo.stage import Stage
from sandbox.demo.world import VENDORS, open_world

# What the world may do to us. Anything else is a mistake of the demo: it ends with a traceback, and 1 as well.
_BROKEN = (
    DemoFailure,
    GatewayProblem,
    ClientError,
    RpcError,
    OSError,
    RuntimeError,
    subprocess.TimeoutExpired,
    http.client.HTTPException,
)


def main() -> int:
    """Play the scenes and close the books; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.demo", description="The gateway at work, in a few minutes."
    )
    names = ", ".join(scene.name for scene in SCENES)
    parser.add_argument(
        "--vendor",
        choices=(*VENDORS, ANY),
        help="play one vendor's scenes only; any: the API that takes whichever vendor wins",
    )
    parser.add_argument("--only", type=_chosen, metavar="SCENES", help=f"play only these, by commas: {names}")
    parser.add_argument("--keep", action="store_true", help="keep the configuration, the database and the logs")
    options = parser.parse_args()
    interrupts.install()
    screen = Screen()
    try:
        _play(screen, _cast(options.only, options.vendor), keep=options.keep)
    except KeyboardInterrupt:
        screen.bad("interrupted; everything was stopped")
        return 1
    except _BROKEN as error:
        name = "" if isinstance(error, DemoFailure) else f"{type(error).__name__}: "
        screen.bad(f"{name}{error}")
        return 1
    screen.plain("\nThe books add up to the token balances on chain, to the last unit.")
    screen.plain(f"It took {screen.elapsed_s:.0f} seconds.")
    return 0


def _cast(only: frozenset[str] | None, vendor: str | None) -> list[Scene]:
    return [
        scene for scene in SCENES if (only is None or scene.name in only) and (vendor is None or scene.vendor == vendor)
    ]


def _play(screen: Screen, cast: list[Scene], *, keep: bool) -> None:
    if not cast:
        raise DemoFailure("the scenes", "at least one", "none of that vendor's is among those named")
    screen.title("Starting chains, vendors and gateway")
    with open_world(screen, frozenset().union(*(scene.needs for scene in cast)), keep=keep) as world:
        stage = Stage(world, screen)
        try:
            for number, scene in enumerate(cast, 1):
                screen.title(f"{number}. {scene.title}")
                scene.play(stage)
            screen.title("The books")
            books.close(world, screen)
        except _BROKEN:
            screen.plain(f"\nThe end of the gateway's log:\n{world.gateway.log_tail()}")
            raise


def _chosen(text: str) -> frozenset[str]:
    chosen, known = frozenset(text.split(",")), {scene.name for scene in SCENES}
    if unknown := sorted(chosen - known):
        raise argparse.ArgumentTypeError(f"there is no scene {', '.join(unknown)}")
    if "renewal" in chosen and "rental" not in chosen:
        raise argparse.ArgumentTypeError("renewal renews what rental rents: name both")
    return chosen


if __name__ == "__main__":
    sys.exit(main())
