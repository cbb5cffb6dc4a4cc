"""T1: a free call of 1 KB through the gateway against a bare aiohttp reverse proxy, same upstream, same core."""

from collections.abc import Callable, Mapping

from tests.bench.figures import Contest, Measure, Ratio, Section
from tests.bench.load import drive
from tests.bench.processes import TEST_CORE, Child
from tests.bench.rig import HOST, Rig, rig

TARGET = 1.15
LEVELS = {1: 1_500, 16: 5_000, 64: 5_000}


def measure(rounds: int, scale: float) -> Section:
    """Run the section."""
    section = Section("T1", "free proxied call, 1 KB: gateway against a bare aiohttp reverse proxy")
    with rig() as it:
        upstream = f"http://{HOST}:{it.seller.info['port']}"
        log = it.directory / "bare.log"
        with Child.start(
            ["-m", "tests.bench.bare_proxy"], core=TEST_CORE, log=log, config={"upstream": upstream}
        ) as bare:
            for concurrency, count in LEVELS.items():
                _level(section, it, bare, rounds, concurrency, max(100, int(count * scale)))
    return section


def _level(section: Section, it: Rig, bare: Child, rounds: int, concurrency: int, count: int) -> None:
    contest = Contest(rounds)
    contest.add("bare aiohttp proxy", _runner(bare, bare.info["port"], _direct, count, concurrency))
    contest.add("gateway", _runner(it.gateway, it.gateway_port, it.free, count, concurrency))
    contest.run()
    section.rows |= {f"{name}, c={concurrency}": row for name, row in contest.rows().items()}
    ratio = contest.ratio("gateway", "bare aiohttp proxy", "CPU us each")
    section.ratios.append(Ratio(f"CPU per request, c={concurrency}", ratio, TARGET))


def _direct(_number: int) -> bytes:
    return f"GET /free HTTP/1.1\r\nHost: {HOST}\r\nAccept: */*\r\n\r\n".encode()


def _runner(child: Child, port: int, request: Callable[[int], bytes], count: int, concurrency: int) -> Measure:
    def run(_number: int) -> Mapping[str, float]:
        before = child.cpu_s()
        found = drive(HOST, port, request, count, concurrency)
        return found.figures(child.cpu_s() - before)

    return run
