// Everything that the vendor knows, as plain data, and the file in which it survives a restart.
//
// It must not judge what is in it. The file is replaced whole, so that a kill leaves the old one or the new one.

import { closeSync, existsSync, fsyncSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs'

const CLAIMS_KEPT = 1_000

/** An empty book. Times are business Unix milliseconds unless they are called real. */
export function emptyBook() {
  return {
    servers: {}, // id -> see servers.mjs
    snapshots: {}, // id -> see snapshots.mjs
    keys: {}, // id -> see keys.mjs
    payments: [], // every collected payment, and every proof that changed something, oldest first
    proofs: 0, // how many proofs were taken for reading
    claims: {}, // mppx's replay markers: what was presented once is not taken twice
    offset_ms: 0,
    secret_key: null,
    addresses: 0, // how many were given out
  }
}

/** Whether a server still exists. */
export function isLive(server) {
  return server.status !== 'destroyed'
}

/** Whether a snapshot still exists. */
export function isKept(snapshot) {
  return snapshot.status !== 'expired' && snapshot.status !== 'deleted'
}

export class StateFile {
  /** With no path it keeps nothing. */
  constructor(path) {
    this.path = path
  }

  /** The saved book, or an empty one. */
  load() {
    if (!this.path || !existsSync(this.path)) return emptyBook()
    return { ...emptyBook(), ...JSON.parse(readFileSync(this.path, 'utf8')) }
  }

  /** Put the book on disk, durably. */
  save(book) {
    if (!this.path) return
    const draft = `${this.path}.tmp`
    const file = openSync(draft, 'w')
    try {
      writeSync(file, JSON.stringify(book))
      fsyncSync(file)
    } finally {
      closeSync(file)
    }
    renameSync(draft, this.path)
  }
}

/** mppx's atomic store over `book.claims`; each change is saved before mppx goes on. */
export function claimStore(vendor) {
  const claims = () => vendor.book.claims
  const put = (key, value) => {
    if (Object.keys(claims()).length >= CLAIMS_KEPT) forgetExpired(claims())
    claims()[key] = JSON.parse(JSON.stringify(value))
    vendor.save()
  }
  const drop = (key) => {
    delete claims()[key]
    vendor.save()
  }
  return {
    get: async (key) => claims()[key] ?? null,
    put: async (key, value) => put(key, value),
    delete: async (key) => drop(key),
    update: async (key, change) => {
      const decided = change(claims()[key] ?? null)
      if (decided.op === 'set') put(key, decided.value)
      if (decided.op === 'delete') drop(key)
      return decided.result
    },
  }
}

/** Markers of challenges that have expired guard nothing: mppx refuses the challenge itself. */
function forgetExpired(claims) {
  for (const [key, { type, expires }] of Object.entries(claims)) {
    if (type === 'mppx:replay' && expires < Date.now()) delete claims[key]
  }
}
