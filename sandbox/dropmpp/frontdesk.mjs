// The counter: what happens between a priced request and its answer. Challenge, refuse, collect, serve.
//
// It knows terms and faults but not what is sold: an operation hands it a price, whose wallet must ask, and the work.

import { Challenge } from 'mppx'
import { setTimeout as sleep } from 'node:timers/promises'

import { parseUsd, usd } from './money.mjs'
import { Problem } from './problem.mjs'
import { Till, credentialOf } from './till.mjs'
import { json } from './transport.mjs'

const ALTERED_KEPT = 1_000

export class FrontDesk {
  #altered = new Map() // challenge id -> the terms that a fault changed

  constructor(vendor) {
    this.vendor = vendor
    this.till = new Till(vendor)
  }

  /** Answer a request for an operation of which `asked` is {route, scope, request, price, owner, serve}. */
  async answer(asked) {
    const credential = credentialOf(asked.request.headers)
    const terms = this.#terms(asked, credential)
    if (terms === null) return this.#free(asked)
    if (!credential) return this.#challenge(asked, terms)
    const refuse = this.vendor.faults.take('refuse', asked.route, true)
    if (refuse) return this.#refuse(asked, terms, credential, refuse)
    const collect = this.vendor.faults.take('collect', asked.route, true)
    if (collect) await sleep(collect.delay_s * 1000)
    return this.#collect(asked, terms, credential)
  }

  /** The terms of this request, or null where it is open to anyone and no fault wants otherwise. */
  #terms({ route, price }, credential) {
    const altered = credential && this.#altered.get(credential.challenge?.id)
    if (altered) return altered
    const fault = credential ? undefined : this.vendor.faults.take('challenge', route, false)
    if (price === null && !fault) return null
    const terms = this.till.terms(price ?? 0n)
    return fault ? { ...changed(terms, fault.set), fault } : terms
  }

  async #free({ serve }) {
    const { status, body } = serve({ payer: null, charged: 0n })
    return json(status, body)
  }

  async #challenge(asked, terms) {
    const { refused } = await this.till.ask(mppxRequest(asked.request), terms, asked.scope)
    const answer = await plain(refused)
    const { fault } = terms
    if (!fault || refused.status !== 402) return answer
    const challenge = Challenge.fromResponse(refused)
    this.#altered.set(challenge.id, terms)
    if (this.#altered.size > ALTERED_KEPT) this.#altered.delete(this.#altered.keys().next().value)
    return this.#disfigured(answer, challenge, fault)
  }

  #disfigured(answer, challenge, fault) {
    const ours = fault.request ? this.till.reissue(challenge, fault.request) : challenge
    const lines = fault.headers ?? [...fault.also, Challenge.serialize(ours)]
    const headers = answer.headers.filter(([name]) => name !== 'www-authenticate')
    for (const line of fault.join ? [lines.join(', ')] : lines) headers.push(['www-authenticate', line])
    if (fault.retry_after_s !== null) headers.push(['retry-after', String(fault.retry_after_s)])
    return { status: fault.status ?? answer.status, headers, body: fault.body ?? answer.body }
  }

  /** Say no to a payment that may be good; perhaps collect it later all the same. */
  async #refuse(asked, terms, credential, fault) {
    if (fault.settle_after_s !== null) {
      const later = async () => {
        await sleep(fault.settle_after_s * 1000)
        const { receipted } = await this.till.ask(mppxRequest(asked.request), terms, asked.scope, credential)
        const payer = await this.till.payerOf(credential)
        if (receipted) await this.#booked(asked, terms, credential, payer, receipted, 'kept')
      }
      later().catch((error) => console.error(error))
    }
    return fault.status === 402 ? this.#again(asked, terms) : json(fault.status, { error: 'payment not accepted' })
  }

  /** A 402 with a fresh challenge, as if nothing had been presented. */
  async #again(asked, terms) {
    const { method, url } = asked.request
    const { refused } = await this.till.ask(new Request(url, { method }), terms, asked.scope)
    return plain(refused)
  }

  async #collect(asked, terms, credential) {
    const { vendor } = this
    const payer = credential.broken ? null : await this.till.payerOf(credential)
    const owners = [asked.owner?.() ?? []].flat()
    if (payer !== null && owners.some((owner) => owner !== payer)) {
      throw new Problem(404, 'not found') // somebody else's; told before any money moves
    }
    const { refused, receipted } = await this.till.ask(mppxRequest(asked.request), terms, asked.scope, credential)
    if (!receipted) return plain(refused)
    const booked = await this.#booked(asked, terms, credential, payer, receipted, 'failed')
    asked.afterCharge()
    const again = vendor.faults.take('again', asked.route, true)
    const fail = vendor.faults.take('fail', asked.route, true)
    const served = again?.work === false || fail?.work === false ? null : this.#serve(asked, terms, booked)
    vendor.save()
    if (again) return this.#again(asked, terms)
    if (fail) return this.#told(json(fail.status, fail.body), receipted, fail.receipt ? 'send' : 'drop')
    const receipt = vendor.faults.take('receipt', asked.route, true)
    return this.#told(json(served.status, served.body), receipted, receipt?.mode ?? 'send')
  }

  #serve(asked, terms, booked) {
    try {
      const served = asked.serve({ payer: booked.payer, charged: terms.amount_base })
      booked.outcome = 'served'
      return served
    } catch (error) {
      if (error instanceof Problem) return { status: error.status, body: error.body() }
      throw error
    }
  }

  /** The answer with its receipt, without it, or with a broken one. */
  async #told(answer, receipted, mode) {
    if (mode === 'drop') return answer
    const { status, headers, body } = answer
    const told = await plain(await receipted(new Response(body, { status, headers })))
    if (mode === 'send') return told
    return { ...told, headers: told.headers.map(([n, v]) => [n, n === 'payment-receipt' ? v.slice(0, 20) : v]) }
  }

  /** Put a payment that is in into the book, before anything is done for it; proofs for reading are only counted. */
  async #booked(asked, terms, credential, payer, receipted, outcome) {
    if (terms.amount_base === 0n && asked.request.method === 'GET') {
      this.vendor.book.proofs += 1
      return { payer }
    }
    const headers = (await receipted(new Response('{}'))).headers
    const receipt = JSON.parse(Buffer.from(headers.get('payment-receipt'), 'base64url'))
    const booked = {
      route: asked.route,
      path: asked.request.path,
      challenge_id: credential.challenge.id,
      amount_base: terms.amount_base.toString(),
      charged: usd(terms.amount_base),
      currency: terms.currency,
      recipient: terms.recipient,
      payer,
      mode: credential.payload.type,
      reference: receipt.reference,
      real_ms: this.vendor.clock.realMs(),
      outcome, // served; failed: nothing was made for it; kept: refused and collected all the same
    }
    this.vendor.book.payments.push(booked)
    this.vendor.save()
    return booked
  }
}

function changed(terms, set) {
  const { amount, ...others } = set
  const altered = { ...terms, ...others }
  if (amount === undefined) return altered
  altered.amount_base = parseUsd(amount)
  if (altered.amount_base === 0n) Object.assign(altered, { splits: set.splits ?? [], fee_payer: false })
  return altered
}

function mppxRequest({ method, url, headers }) {
  return new Request(url, { method, headers }) // mppx looks at headers only
}

async function plain(response) {
  return { status: response.status, headers: [...response.headers], body: await response.text() }
}
