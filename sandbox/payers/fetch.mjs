// A stock payer of x402 version 2: npm `@x402/fetch`, run once. `node fetch.mjs --config JSON`; see once.mjs.
//
// Its spend controls are as they come: a dollar for each payment, in assets that it knows by itself.

import { ExactEvmScheme } from '@x402/evm/exact/client'
import { decodePaymentResponseHeader, wrapFetchWithPaymentFromConfig } from '@x402/fetch'
import { privateKeyToAccount } from 'viem/accounts'

import { payOnce } from './once.mjs'

await payOnce(paying, receiptOf)

function paying(config, fetch) {
  const client = new ExactEvmScheme(privateKeyToAccount(config.private_key))
  return wrapFetchWithPaymentFromConfig(fetch, { schemes: [{ network: 'eip155:*', client }] })
}

function receiptOf(answer) {
  const header = answer.headers.get('payment-response')
  return header === null ? null : decodePaymentResponseHeader(header)
}
