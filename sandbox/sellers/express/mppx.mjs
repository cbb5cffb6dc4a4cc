// The till of npm `mppx`'s express middleware, with nothing changed in it: charges on Tempo, or EIP-3009 on Base.

import { randomBytes } from 'node:crypto'

import { evm, Mppx, tempo } from 'mppx/express'
import { createClient, http } from 'viem'
import { tempoModerato } from 'viem/tempo/chains'

const PATH_USD = '0x20c0000000000000000000000000000000000000'
const BASE_USDC = '0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913'
const BASE = 8453
const TTL_MS = 300_000

/** Put the middleware before the routes. */
export function mppxTill(app, config, prices) {
  const method = config.till === 'tempo' ? onTempo(config) : onBase(config)
  const till = Mppx.create({ methods: [method], secretKey: randomBytes(32).toString('hex') })
  for (const [route, amount] of Object.entries(prices)) {
    const [verb, path] = route.split(' ')
    app[verb.toLowerCase()](path, (request, response, next) =>
      till.charge({ amount, expires: nextEnd() })(request, response, next),
    )
  }
}

function onTempo(config) {
  const transport = http(config.rpc_url, { timeout: config.rpc_timeout_s * 1000, retryCount: 0 })
  const client = createClient({ chain: tempoModerato, transport, pollingInterval: 200 })
  return tempo.charge({ currency: PATH_USD, recipient: config.pay_to, getClient: () => client })
}

function onBase(config) {
  return evm.charge({
    currency: BASE_USDC,
    chainId: BASE,
    decimals: 6,
    authorization: { name: 'USD Coin', version: '2' },
    recipient: config.pay_to,
    x402: { facilitator: config.facilitator_url, ...keyed(config) },
  })
}

/** mppx knows no keys of facilitators, but takes a fetch of one's own. */
function keyed(config) {
  if (config.facilitator_key === null) return {}
  const key = { Authorization: `Bearer ${config.facilitator_key}` }
  return { fetch: (url, init) => fetch(url, { ...init, headers: { ...init.headers, ...key } }) }
}

let lastEnd = 0

/** When a challenge ends. No two end at once: mppx gives equal challenges of one millisecond one id. */
function nextEnd() {
  lastEnd = Math.max(Date.now() + TTL_MS, lastEnd + 1)
  return new Date(lastEnd).toISOString()
}
