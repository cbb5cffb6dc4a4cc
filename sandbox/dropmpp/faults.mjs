// The vendor's scripted faults: what each is called, where it strikes, and what it takes.
//
// Faults are data, given over the admin API: {kind, route, ...parameters, times, skip, paid, id}.
//
// - route: one of ROUTES below, or "*" (the default).
// - times: how often it strikes; default 1, null for "until it is deleted".
// - skip: so many matching requests are spared first; default 0.
// - paid: true or false to strike only requests with, or without, a credential (a proof is one); default null, both.
// - id: given by the vendor, for DELETE /admin/faults/{id}.
//
// What the wire does:
//
// - slow      {before_s, after_s, body_s}: waits before the handler, before the headers, in the middle of the body.
// - cut       {when}: cuts the connection `before` handling, `after` it (reply dropped: charged, and the thing is
//             made), or in the middle of the `body`.
// - status    {status, body, headers, when}: answers so `before` handling, or instead of the real reply `after` it.
// - redirect  {location, status}: to another origin, say.
//
// What a 402 says (requests without a credential):
//
// - challenge {set, request, also, join, headers, body, status, retry_after_s}: `set` changes the terms before mppx
//             issues them: amount (decimal USD), currency, recipient, chain_id, realm, expires_in_s (negative: gone
//             already), splits [{amount, recipient}], modes, fee_payer (false), description, external_id. What was
//             asked for so is then also accepted, so that a careless payer really loses its money; on a free route an
//             amount makes it ask for money, on a paid one "0" asks for a proof. `request` changes the challenge's
//             request after that (null deletes), with a right MAC, in ways that mppx itself would not: "00", no
//             chainId. `also` puts more WWW-Authenticate lines before ours, `join` sends them all as one line,
//             `headers` replaces them, `body` and `status` replace the rest, `retry_after_s` adds Retry-After.
// - price     {size, hourly, create_fee}: catalogue and challenge together. Does not wear out: `times` is always null.
//
// What a credential meets:
//
// - refuse    {status, settle_after_s}: says no (402 with a fresh challenge, or a status) without having looked; with
//             `settle_after_s` it collects all the same, so much later.
// - collect   {delay_s}: holds the payment so long before it broadcasts it.
// - again     {work}: 402 with a fresh challenge although it has charged; `work` says whether the thing is made.
// - fail      {status, body, work, receipt}: a 5xx (or another status) although it has charged; `receipt` sends the
//             Payment-Receipt along.
// - receipt   {mode}: the receipt of a good answer is left out (`drop`) or `garble`d.
//
// What befalls the thing itself:
//
// - expire    {when}: the server in the path reaches its end `before` the request is looked at, or when it has just
//             been `charged` for.

import { SIZES, withPrices } from './catalog.mjs'

export const ROUTES = [
  ...['sizes', 'regions', 'images', 'snapshot_pricing'],
  ...['servers.create', 'servers.list', 'servers.get', 'servers.extend', 'servers.snapshot', 'servers.delete'],
  ...['servers.reboot', 'servers.power'],
  ...['snapshots.list', 'snapshots.get', 'snapshots.extend', 'snapshots.delete'],
  ...['keys.create', 'keys.list', 'keys.delete'],
]

const COMMON = { route: '*', times: 1, skip: 0, paid: null }
const PARAMETERS = {
  slow: { before_s: 0, after_s: 0, body_s: 0 },
  cut: { when: 'after' },
  status: { status: 500, body: { error: 'internal error' }, headers: {}, when: 'before' },
  redirect: { location: '', status: 307 },
  challenge: {
    set: {},
    request: null,
    also: [],
    join: false,
    headers: null,
    body: null,
    status: null,
    retry_after_s: null,
  },
  price: { size: '', hourly: null, create_fee: null },
  refuse: { status: 402, settle_after_s: null },
  collect: { delay_s: 0 },
  again: { work: false },
  fail: { status: 502, body: { error: 'upstream provider failed' }, work: false, receipt: false },
  receipt: { mode: 'drop' },
  expire: { when: 'before' },
}
const MODES = {
  cut: ['when', ['before', 'after', 'body']],
  status: ['when', ['before', 'after']],
  receipt: ['mode', ['drop', 'garble']],
  expire: ['when', ['before', 'charged']],
}
const TERMS = [
  ...['amount', 'currency', 'recipient', 'chain_id', 'realm', 'expires_in_s', 'splits', 'modes', 'fee_payer'],
  ...['description', 'external_id'],
]

export class Faults {
  #active = new Map()
  #lastId = 0

  /** Put a fault in force and return its id; throws RangeError for a kind, key or value that does not exist. */
  add(raw) {
    const parameters = PARAMETERS[raw?.kind]
    if (!parameters) throw new RangeError(`unknown kind: ${JSON.stringify(raw?.kind)}`)
    const allowed = ['kind', ...Object.keys(COMMON), ...Object.keys(parameters)]
    refuseOthers(raw.kind, Object.keys(raw), allowed)
    const fault = { ...COMMON, ...structuredClone(parameters), ...raw }
    if (fault.route !== '*' && !ROUTES.includes(fault.route)) throw new RangeError(`unknown route: ${fault.route}`)
    const [key, values] = MODES[fault.kind] ?? []
    if (key && !values.includes(fault[key])) throw new RangeError(`${fault.kind}: ${key} must be one of ${values}`)
    if (fault.kind === 'challenge') refuseOthers('set', Object.keys(fault.set), TERMS)
    if (fault.kind === 'price') {
      withPrices(SIZES, priced(fault))
      fault.times = null
    }
    this.#lastId += 1
    this.#active.set(this.#lastId, { id: this.#lastId, ...fault })
    return this.#lastId
  }

  /** The next fault of a kind that strikes this request, used up once; undefined when there is none. */
  take(kind, route, paid, matches = () => true) {
    for (const fault of this.#active.values()) {
      if (fault.kind !== kind || !['*', route].includes(fault.route) || ![null, paid].includes(fault.paid)) continue
      if (!matches(fault)) continue
      if (fault.skip > 0) {
        fault.skip -= 1
        continue
      }
      if (fault.times !== null && (fault.times -= 1) <= 0) this.#active.delete(fault.id)
      return fault
    }
    return undefined
  }

  /** The sizes with the raised prices in force. */
  sizes(base) {
    const raised = this.active().filter((fault) => fault.kind === 'price')
    return raised.reduce((table, fault) => withPrices(table, priced(fault)), base)
  }

  /** All faults in force. */
  active() {
    return [...this.#active.values()]
  }

  /** Lift one fault, or all. */
  clear(id) {
    if (id === undefined) this.#active.clear()
    else this.#active.delete(id)
  }
}

function priced(fault) {
  const changes = { hourly: fault.hourly, create_fee: fault.create_fee }
  return { [fault.size]: Object.fromEntries(Object.entries(changes).filter(([, value]) => value !== null)) }
}

function refuseOthers(where, given, allowed) {
  const unknown = given.filter((key) => !allowed.includes(key))
  if (unknown.length > 0) throw new RangeError(`${where}: unknown keys: ${unknown.sort().join(', ')}`)
}
