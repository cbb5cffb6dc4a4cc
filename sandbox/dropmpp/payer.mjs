// A stock payer: npm `mppx`'s own client, kept running. JSON lines in, JSON lines out, each answer with its call's id.
//
// The first line is the config {rpc_url, chain_id}. Then:
//
// - {id, op: "fetch", key, method, url, json, headers, mode, retries}: the call, paid as mppx pays it, `retries` times at
//   most (its own default) -> {status, headers, body, credentials}, the last how often it signed.
// - {id, op: "credential", key, challenges, mode}: signs for the WWW-Authenticate lines and sends nothing
//   -> {credential, tx_hash}; the hash only where the payer knows it: a pull payment that nobody sponsors.
//
// What throws is {id, error}.

import { createInterface } from 'node:readline'

import { Credential } from 'mppx'
import { Mppx, tempo } from 'mppx/client'
import { createClient, http, keccak256 } from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import { tempoModerato } from 'viem/tempo/chains'

const UNSPONSORED = '0x76'
let config

createInterface({ input: process.stdin }).on('line', (line) => {
  const asked = JSON.parse(line)
  if (config === undefined) {
    config = asked
    return
  }
  const act = { fetch: paidFetch, credential }[asked.op]
  act(asked).then(
    (answer) => tell(asked.id, answer),
    (error) => tell(asked.id, { error: String(error?.message ?? error) }),
  )
})

async function paidFetch({ key, method, url, json, headers, mode, retries }) {
  let credentials = 0
  const payer = client(key, mode, retries)
  payer.onCredentialCreated(() => {
    credentials += 1
  })
  const body = json === undefined ? undefined : JSON.stringify(json)
  const given = { ...(json !== undefined && { 'content-type': 'application/json' }), ...headers }
  const answer = await payer.fetch(url, { method, body, headers: given })
  return { status: answer.status, headers: Object.fromEntries(answer.headers), body: await answer.text(), credentials }
}

async function credential({ key, challenges, mode }) {
  const headers = new Headers()
  for (const challenge of challenges) headers.append('www-authenticate', challenge)
  const signed = await client(key, mode).createCredential(new Response(null, { status: 402, headers }))
  const { signature } = Credential.deserialize(signed).payload
  return { credential: signed, tx_hash: signature?.startsWith(UNSPONSORED) ? keccak256(signature) : null }
}

function client(key, mode, retries) {
  const getClient = ({ chainId }) =>
    createClient({ chain: { ...tempoModerato, id: chainId ?? config.chain_id }, transport: http(config.rpc_url) })
  const account = privateKeyToAccount(key)
  const methods = [tempo.charge({ account, getClient, ...(mode && { mode }) })]
  return Mppx.create({ methods, polyfill: false, ...(retries !== undefined && { maxPaymentRetries: retries }) })
}

function tell(id, answer) {
  process.stdout.write(`${JSON.stringify({ id, ...answer })}\n`)
}
