// A stock payer of MPP: npm `mppx`, run once. `node mppx.mjs --config JSON`; see once.mjs.
//
// Config besides: methods (["tempo"]), the ways to pay that this wallet has, of tempo and evm, in the order it prefers
// them; rpc_url of Tempo, for "tempo"; mode ("pull" or "push"; what mppx does by itself).

import { Receipt } from 'mppx'
import { evm, Mppx, tempo } from 'mppx/client'
import { createClient, http } from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import { tempoModerato } from 'viem/tempo/chains'

import { payOnce } from './once.mjs'

const BASE = 8453
const BASE_USDC = '0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913'

await payOnce(paying, receiptOf)

function paying(config, fetch) {
  const account = privateKeyToAccount(config.private_key)
  const known = { tempo: onTempo, evm: onBase }
  const methods = (config.methods ?? ['tempo']).map((name) => known[name](config, account))
  return Mppx.create({ methods, fetch, polyfill: false }).fetch
}

function receiptOf(answer) {
  return answer.headers.has('payment-receipt') ? Receipt.fromResponse(answer) : null
}

function onTempo(config, account) {
  const transport = http(config.rpc_url)
  const getClient = ({ chainId }) => createClient({ chain: { ...tempoModerato, id: chainId }, transport })
  return tempo.charge({ account, getClient, ...(config.mode != null && { mode: config.mode }) })
}

function onBase(_, account) {
  const authorization = { name: 'USD Coin', version: '2' }
  return evm.charge({ account, authorization, currencies: [BASE_USDC], networks: [BASE], decimals: 6 })
}
