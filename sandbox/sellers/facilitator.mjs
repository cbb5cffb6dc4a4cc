// The facilitator of npm `@x402/core` and `@x402/evm` behind express, put together as the SDK's own example is, less the logging.
//
// First line in: {rpc_url, relayer_key, tuned}; one line out when it is ready: {base_url, relayer}; it ends with its input.
// As the example ships, viem asks the node for each account nonce, so settlements at the same time get the same one; `tuned`
// counts nonces itself (viem's nonceManager) and looks for receipts ten times a second.

import { createInterface } from 'node:readline'

import { x402Facilitator } from '@x402/core/facilitator'
import { toFacilitatorEvmSigner } from '@x402/evm'
import { ExactEvmScheme } from '@x402/evm/exact/facilitator'
import express from 'express'
import { createWalletClient, http, nonceManager, publicActions } from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import { base } from 'viem/chains'

const NETWORK = 'eip155:8453'
const HOST = '127.0.0.1'
const TUNED_POLL_MS = 100

function signerFor({ rpc_url, relayer_key, tuned }) {
  const account = privateKeyToAccount(relayer_key, tuned ? { nonceManager } : {})
  const polling = tuned ? { pollingInterval: TUNED_POLL_MS } : {}
  const client = createWalletClient({ account, chain: base, transport: http(rpc_url), ...polling }).extend(publicActions)
  return toFacilitatorEvmSigner({
    address: account.address,
    getCode: (args) => client.getCode(args),
    readContract: (args) => client.readContract({ ...args, args: args.args ?? [] }),
    verifyTypedData: (args) => client.verifyTypedData(args),
    writeContract: (args) => client.writeContract({ ...args, args: args.args ?? [] }),
    sendTransaction: (args) => client.sendTransaction(args),
    waitForTransactionReceipt: (args) => client.waitForTransactionReceipt(args),
  })
}

function serve(config) {
  const signer = signerFor(config)
  const facilitator = new x402Facilitator().register(NETWORK, new ExactEvmScheme(signer))
  const app = express()
  app.use(express.json())
  for (const verb of ['verify', 'settle']) {
    app.post(`/${verb}`, async (request, response) => {
      const { paymentPayload, paymentRequirements } = request.body
      try {
        response.json(await facilitator[verb](paymentPayload, paymentRequirements))
      } catch (error) {
        response.status(500).json({ error: String(error) })
      }
    })
  }
  app.get('/supported', (_, response) => response.json(facilitator.getSupported()))
  const server = app.listen(0, HOST, () => {
    const relayer = signer.getAddresses()[0]
    console.log(JSON.stringify({ base_url: `http://${HOST}:${server.address().port}`, relayer }))
  })
}

const input = createInterface({ input: process.stdin })
input.once('line', (line) => serve(JSON.parse(line)))
input.once('close', () => process.exit(0))
