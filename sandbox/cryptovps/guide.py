"""What GET /llms.txt answers: the vendor's document, shortened to what an agent needs first."""

from __future__ import annotations

GUIDE = """# CryptoVPS - API guide for AI agents
Base URL: {origin}

1. POST /auth/register {{"email":"...","password":"min 8 chars"}} -> 201 {{"accessToken":"","user":{{...}}}}
2. Send "Authorization: Bearer <accessToken>" on every request below; it expires in 15 minutes.
3. GET /billing -> {{"balance":"10.00","hourlySpend":"0"}}
4. POST /servers {{"label":"my-bot","planId":"vc2-1c-1gb","regionId":"ams"}} -> 202 {{"server":{{...}}}}
5. Poll GET /servers/<id> every ~5s until "status":"ACTIVE".
6. DELETE /servers/<id> -> 202. Billing for it stops the same hour.

Also: GET /auth/me, POST /auth/login, GET /servers, POST /servers/bulk, GET|POST /backups,
POST /backups/<id>/restore, DELETE /backups/<id>.
"""
