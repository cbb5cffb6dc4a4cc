// The till of npm `@x402/express`, version 2, with nothing changed in it: exact payments in USDC on Base.

import { HTTPFacilitatorClient } from '@x402/core/server'
import { ExactEvmScheme } from '@x402/evm/exact/server'
import { paymentMiddleware, x402ResourceServer } from '@x402/express'

const NETWORK = 'eip155:8453'

/** The SDK's own way to say who one is: headers for each of the facilitator's routes. */
function authorized(config) {
  if (config.facilitator_key === null) return {}
  const headers = { Authorization: `Bearer ${config.facilitator_key}` }
  return { createAuthHeaders: async () => ({ verify: headers, settle: headers, supported: headers }) }
}

/** Put the middleware before the routes. */
export function x402Till(app, config, prices) {
  const facilitator = new HTTPFacilitatorClient({ url: config.facilitator_url, ...authorized(config) })
  const server = new x402ResourceServer(facilitator).register(NETWORK, new ExactEvmScheme())
  const routes = Object.entries(prices).map(([route, price]) => [
    route,
    {
      accepts: {
        scheme: 'exact',
        price: `$${price}`,
        network: NETWORK,
        payTo: config.pay_to,
        maxTimeoutSeconds: config.max_timeout_s,
      },
      description: route,
      mimeType: 'application/json',
    },
  ])
  app.use(paymentMiddleware(Object.fromEntries(routes), server))
}
