// The till: everything that mppx does for this vendor. It issues challenges, checks credentials and collects.
//
// It knows amounts and terms, not what is sold. Terms are what one challenge asks for:
// {amount (base units), currency, recipient, chain_id, realm, expires_in_s, splits, modes, fee_payer, ...}.

import { randomBytes } from 'node:crypto'

import { Challenge, Credential } from 'mppx'
import { Mppx, tempo } from 'mppx/server'
import { createClient, http } from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import { getTransactionReceipt } from 'viem/actions'
import { Transaction } from 'viem/tempo'
import { tempoModerato } from 'viem/tempo/chains'

import { claimStore } from './book.mjs'
import { usd } from './money.mjs'

const RPC_TIMEOUT_MS = 35_000 // a node waits up to 30 s for the block
const SOURCE = /^did:pkh:eip155:[0-9]+:(0x[0-9a-fA-F]{40})$/
const BPS = 10_000n

export class Till {
  #tills = new Map()

  constructor(vendor) {
    const { config } = vendor
    this.config = config
    this.secretKey = vendor.book.secret_key
    this.charge = tempo.charge({
      currency: config.currency,
      recipient: config.pay_to,
      getClient: ({ chainId }) => this.#client(chainId ?? config.chain_id),
      store: claimStore(vendor),
      ...(config.fee_payer_key && { feePayer: privateKeyToAccount(config.fee_payer_key) }),
    })
  }

  /** The ordinary terms of an amount. */
  terms(amountBase) {
    const { config } = this
    const splits = amountBase === 0n ? [] : config.splits.map((part) => share(part, amountBase))
    return {
      amount_base: amountBase,
      currency: config.currency,
      recipient: config.pay_to,
      chain_id: config.chain_id,
      realm: config.realm,
      expires_in_s: config.challenge_ttl_s,
      splits: splits.filter((part) => part.amount !== '0'),
      modes: config.modes,
      fee_payer: config.fee_payer_key !== null && amountBase > 0n,
      description: null,
      external_id: null,
    }
  }

  /**
   * Put one request before mppx: its 402 as {refused: Response}, or {receipted} where the payment is in; that takes
   * the real answer and gives it back with the receipt.
   */
  async ask(request, terms, scope, credential) {
    const nonce = metaOf(credential?.challenge)?.n ?? randomBytes(9).toString('base64url')
    const options = {
      amount: usd(terms.amount_base),
      currency: terms.currency,
      recipient: terms.recipient,
      chainId: terms.chain_id,
      expires: new Date(Date.now() + terms.expires_in_s * 1000).toISOString(),
      meta: { n: nonce }, // two challenges of one millisecond would otherwise be one
      scope,
      ...(terms.splits.length > 0 && { splits: terms.splits }),
      ...(terms.modes && { supportedModes: terms.modes }),
      ...(this.config.fee_payer_key && !terms.fee_payer && { feePayer: false }),
      ...(terms.description !== null && { description: terms.description }),
      ...(terms.external_id !== null && { externalId: terms.external_id }),
    }
    const result = await this.#till(terms.realm).charge(options)(request)
    if (result.status !== 200) return { refused: result.challenge }
    return { receipted: (response) => result.withReceipt(response) }
  }

  /** The challenge of a 402 with another request inside, and a MAC that fits it. */
  reissue(challenge, changes) {
    const request = { ...challenge.request, ...changes }
    for (const [key, value] of Object.entries(changes)) if (value === null) delete request[key]
    const { realm, method, intent, expires, header } = challenge
    const meta = metaOf(challenge)
    return Challenge.from({ secretKey: this.secretKey, realm, method, intent, request, expires, header, meta })
  }

  /** The wallet behind a credential, in lower case: who signed, not who they say they are; null where none can be told. */
  async payerOf({ payload, source, challenge }) {
    const said = SOURCE.exec(source ?? '')?.[1]?.toLowerCase() ?? null
    if (payload?.type === 'transaction') {
      try {
        return Transaction.deserialize(payload.signature).from?.toLowerCase() ?? null
      } catch {
        return null // mppx says what is wrong with it
      }
    }
    if (payload?.type !== 'hash' || said) return said
    const chainId = challenge.request.methodDetails?.chainId ?? this.config.chain_id
    try {
      return (await getTransactionReceipt(this.#client(chainId), { hash: payload.hash })).from.toLowerCase()
    } catch {
      return null
    }
  }

  #till(realm) {
    const key = realm ?? ''
    if (!this.#tills.has(key)) {
      const { secretKey } = this
      const auth = this.config.requires_auth ? { requiresAuth: true } : {}
      this.#tills.set(key, Mppx.create({ methods: [this.charge], secretKey, ...auth, ...(realm && { realm }) }))
    }
    return this.#tills.get(key)
  }

  #client(chainId) {
    const transport = http(this.config.rpc_url, { timeout: RPC_TIMEOUT_MS, retryCount: 0 })
    return createClient({ chain: { ...tempoModerato, id: chainId }, transport, pollingInterval: 200 })
  }
}

/** The credential that a request carries, undefined for none; a broken one is {broken: true}. */
export function credentialOf(headers) {
  for (const name of ['payment-authorization', 'authorization']) {
    const payment = Credential.extractPaymentScheme(headers.get(name) ?? '')
    if (!payment) continue
    try {
      return Credential.deserialize(payment)
    } catch {
      return { broken: true }
    }
  }
  return undefined
}

/** The server's own data inside a challenge, undefined where there is none or it is not ours. */
function metaOf(challenge) {
  if (challenge?.meta || !challenge?.opaque) return challenge?.meta
  try {
    const meta = JSON.parse(Buffer.from(challenge.opaque, 'base64url'))
    return typeof meta?.n === 'string' ? meta : undefined
  } catch {
    return undefined // mppx says what is wrong with it
  }
}

function share({ recipient, bps }, amountBase) {
  return { recipient, amount: usd((amountBase * BigInt(bps)) / BPS) }
}
