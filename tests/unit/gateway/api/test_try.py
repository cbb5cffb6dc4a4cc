async def test_try(bed):
    got = await bed.ask("GET", "/proxy/shop/free/a%20b?x=%2F&token=sekret")
    print(got)
    got = await bed.ask("POST", "/proxy/shop/priced", data=b"hi")
    print(got)
    print(await bed.ask("GET","/v1/payments/"+got.headers["X-Payment-Id"]))
    for p in ("balance","statement","payments","resources","vendors","keys"):
        print(await bed.ask("GET","/v1/"+p))
    for p in ("healthz","readyz","metrics","openapi.json","llms.txt"):
        print((await bed.bare("GET","/"+p)).body[:3000].decode())
