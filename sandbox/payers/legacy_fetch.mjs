// A stock payer of x402 version 1: npm `x402-fetch`, run once. `node legacy_fetch.mjs --config JSON`; see once.mjs.
//
// Config besides: max_base, the most that it pays in base units; without it what it comes with, a tenth of a dollar.

import { createWalletClient, http } from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import { base } from 'viem/chains'
import { decodeXPaymentResponse, wrapFetchWithPayment } from 'x402-fetch'

import { payOnce } from './once.mjs'

const NOWHERE = 'http://127.0.0.1:9' // it signs, and asks no chain for anything

await payOnce(paying, receiptOf)

function paying(config, fetch) {
  const account = privateKeyToAccount(config.private_key)
  const wallet = createWalletClient({ account, chain: base, transport: http(NOWHERE) })
  return wrapFetchWithPayment(fetch, wallet, config.max_base == null ? undefined : BigInt(config.max_base))
}

function receiptOf(answer) {
  const header = answer.headers.get('x-payment-response')
  return header === null ? null : decodeXPaymentResponse(header)
}
