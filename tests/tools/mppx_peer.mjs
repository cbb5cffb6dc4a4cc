// The reference MPP SDK for TypeScript as a black box; it imports nothing of ours.
//
// `challenges` prints what its seller says (committed as tests/vectors/mpp/mppx.json: send the output there to
// regenerate it; a test compares the two). `verify` reads credentials on stdin and prints what its decoder, its
// payload schema and its seal over the challenge make of them.

import { Challenge, Credential, Receipt } from '../../sandbox/node_modules/mppx/dist/index.js'
import * as Evm from '../../sandbox/node_modules/mppx/dist/evm/Methods.js'
import * as Tempo from '../../sandbox/node_modules/mppx/dist/tempo/Methods.js'

const secretKey = 'test-vector-secret-minimum-32-byte-secret'
const realm = 'api.example.com'
const expires = '2026-01-06T12:00:00.000Z'
const PATH_USD = '0x20c0000000000000000000000000000000000000'
const USDC = '0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913'
const PAYEE = '0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc'
const OTHER = '0x976EA74026E726554dB657fA54763abd0C3a0aa9'
const charge = { amount: '0.01', currency: PATH_USD, decimals: 6, recipient: PAYEE, chainId: 42431 }

const make = (method, request, also = {}) =>
  Challenge.serialize(Challenge.fromMethod(method, { secretKey, realm, expires, request, ...also }))

function challenges() {
  const plain = make(Tempo.charge, { ...charge, externalId: 'order-1' }, { meta: { n: 'abc', r: 'paid' } })
  const evm = make(Evm.charge, { ...charge, amount: '1.5', currency: USDC, chainId: 8453 })
  return {
    plain,
    evm,
    described: make(Tempo.charge, charge, { description: 'A “droplet”, Payment id="x" \\ for 1 month — 🚀 é' }),
    split: make(Tempo.charge, {
      ...charge,
      feePayer: true,
      splits: [
        { amount: '0.001', recipient: OTHER, memo: `0x${'ab'.repeat(32)}` },
        { amount: '0.002', recipient: PAYEE },
      ],
      supportedModes: ['pull'],
    }),
    push: make(Tempo.charge, { ...charge, supportedModes: ['push'] }),
    either: make(Tempo.charge, { ...charge, supportedModes: ['push', 'pull'] }),
    proof: make(Tempo.charge, { ...charge, amount: '0' }),
    bare_proof: make(Tempo.charge, { ...charge, amount: '0', recipient: undefined }),
    header: make(Tempo.charge, charge, { header: 'Payment-Authorization', digest: 'sha-256=47DEQpj8HBSa' }),
    session: make(Tempo.session, { ...charge, unitType: 'token', escrowContract: OTHER }),
    joined: `Bearer realm="api, Payment", error="x", ${plain}, ${evm}`,
    receipt: Receipt.serialize({
      status: 'success',
      method: 'tempo',
      timestamp: '2026-01-06T11:59:00.123Z',
      reference: `0x${'cd'.repeat(32)}`,
      externalId: 'order-1',
      challengeId: 'abc',
      chainId: 42431,
    }),
  }
}

function verify(values) {
  const schemas = { tempo: Tempo.charge, evm: Evm.charge }
  return values.map((value) => {
    const { challenge, payload, source } = Credential.deserialize(value)
    return {
      sealed: Challenge.verify(challenge, { secretKey }),
      payload: schemas[challenge.method].schema.credential.payload.parse(payload),
      source: source ?? null,
      description: challenge.description ?? null,
    }
  })
}

async function stdin() {
  const chunks = []
  for await (const chunk of process.stdin) chunks.push(chunk)
  return JSON.parse(Buffer.concat(chunks).toString())
}

const answer = process.argv[2] === 'challenges' ? challenges() : verify(await stdin())
process.stdout.write(`${JSON.stringify(answer, null, 1)}\n`)
