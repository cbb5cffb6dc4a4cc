// One vendor: its book, clock and faults, and what time does to its servers and snapshots.

import { randomBytes } from 'node:crypto'

import { emptyBook, isKept, isLive, StateFile } from './book.mjs'
import { Clock } from './clock.mjs'
import { Faults } from './faults.mjs'
import { takeSnapshot } from './snapshots.mjs'

export class Vendor {
  constructor(config) {
    this.config = config
    this.file = new StateFile(config.state_file)
    this.book = this.file.load()
    this.book.secret_key ??= config.secret_key ?? randomBytes(32).toString('hex')
    this.clock = new Clock(this.book.offset_ms)
    this.faults = new Faults()
    for (const fault of config.faults) this.faults.add(fault)
  }

  /** The sizes at the prices of now. */
  sizes() {
    return this.faults.sizes(this.config.sizes)
  }

  /** Put everything on disk. */
  save() {
    this.book.offset_ms = this.clock.offsetMs
    this.file.save(this.book)
  }

  /** Push business time forward, and let it do its work. */
  advance(seconds) {
    this.clock.advance(Math.round(seconds * 1000))
    this.sweep()
    this.save()
  }

  /** Everything that time alone brings about: servers come up and run out, snapshots get ready and expire. */
  sweep() {
    const now = this.clock.businessMs()
    let changed = false
    for (const server of Object.values(this.book.servers)) {
      if (server.status === 'provisioning' && now >= server.ready_at_ms) changed = !!(server.status = 'active')
      if (isLive(server) && now >= server.paid_until_ms) changed = this.#runOut(server)
    }
    for (const snapshot of Object.values(this.book.snapshots)) {
      if (snapshot.status === 'pending' && now >= snapshot.ready_at_ms) changed = !!(snapshot.status = 'available')
      if (isKept(snapshot) && now >= snapshot.expires_at_ms) changed = !!(snapshot.status = 'expired')
    }
    if (changed) this.save()
  }

  /** End a server's prepaid time now. */
  expire(server) {
    server.paid_until_ms = this.clock.businessMs()
    this.sweep()
  }

  /** Destroy a server; with a snapshot of it first, which is returned. */
  destroy(server, { reason, snapshot }) {
    const taken = snapshot ? takeSnapshot(this, server, `auto-${server.id}`) : undefined
    server.status = 'destroyed'
    server.destroyed = reason
    server.destroyed_at_ms = this.clock.businessMs()
    return taken
  }

  /** Begin anew, with the same secret: challenges that are out stay good. */
  reset() {
    this.faults.clear()
    this.book = { ...emptyBook(), secret_key: this.book.secret_key }
    this.clock.offsetMs = 0
    this.save()
  }

  #runOut(server) {
    const rule = this.config.at_expiry
    if (rule !== 'off') {
      this.destroy(server, { reason: 'expired', snapshot: rule === 'snapshot' })
      return true
    }
    if (server.status === 'off') return false
    server.status = 'off'
    return true
  }
}
