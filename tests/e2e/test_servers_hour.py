from __future__ import annotations
import asyncio, json, time, pprint
import aiohttp, pytest
from e2e_gateway import GatewayHome
from hour_story import Hour, Story, RICH_CREDIT, POOR_CREDIT
from hour_vendors import Vendors
from hour_world import World

@pytest.fixture(scope="module")
def hour(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hour")
    home = GatewayHome(folder / "gw")
    t=time.time()
    with Vendors() as vendors:
        vendors.configure(home)
        print("vendors", time.time()-t)
        yield asyncio.run(_play(vendors, home, folder / "clock"))

async def _play(vendors, home, clock):
    t=time.time()
    async with aiohttp.ClientSession() as session:
        world = World(vendors, home, clock, session)
        try:
            await world.start()
            print("started", time.time()-t)
            rich = await world.open_account("rich", RICH_CREDIT)
            poor = await world.open_account("poor", POOR_CREDIT)
            with rich.endpoint, poor.endpoint:
                try:
                    return await Story(world, rich, poor).play()
                finally:
                    print("played", time.time()-t)
                    open('/tmp/hour.log','w').write(home.log()); print([(v['name'],v['health']) for v in (await world.client(rich).vendors())]); print((await world.client(rich).plans(limit=1))['stale'])
                    for o in (rich, poor):
                        c = world.client(o)
                        for s in (await c.servers(limit=200))["entries"]:
                            print({k: s[k] for k in ("name","vendor","plan","state","reason","spent","held","expires_at","keep_until","renewal")})
                        print(await c.balance())
        finally:
            world.close()

@pytest.mark.timeout(300)
def test_x(hour):
    for s in hour.servers.values():
        b = hour.bills.get((s["vendor"], s["ref"]))
        print(s["name"], s["vendor"], s["state"], s["reason"], s["spent"], b)
    for name, b in hour.books.items():
        print(name, b.balance)
        for e in b.events:
            if e["type"].startswith(("server","fleet","balance")): print(e)
    print(hour.tasks, hour.fleet)
