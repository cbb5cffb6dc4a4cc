// The shop: what it sells, and the till that charges for it. Paid: GET /weather, POST /echo. Free: GET /free.
//
// It must not know how anything is paid for. A till is a function from (app, config, prices) that puts its middleware
// before the priced routes.

import express from 'express'

import { mppxTill } from './mppx.mjs'
import { x402Till } from './x402.mjs'

const PRICES = { 'GET /weather': '0.001', 'POST /echo': '0.01' } // decimal USD
const BODY_LIMIT = '1mb'

/** The application. */
export async function shop(config) {
  const app = express()
  app.disable('x-powered-by')
  app.use(express.json({ limit: BODY_LIMIT }))
  const till = config.till === 'x402' ? x402Till : mppxTill
  await till(app, config, PRICES)
  app.get('/weather', (request, response) => response.json({ weather: 'sunny', asked: request.query }))
  app.post('/echo', (request, response) => response.json(request.body))
  app.get('/free', (_, response) => response.type('text/plain').send('free'))
  return app
}
