// Snapshots: taken of servers, kept for 72 free hours, kept longer for money, and deleted. No refunds.

import { randomBytes } from 'node:crypto'

import { isKept } from './book.mjs'
import { RETENTION, retentionPrice } from './catalog.mjs'
import { usd } from './money.mjs'
import { badRequest, notFound } from './problem.mjs'

const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS

/** Take a snapshot of a server, which goes on running. */
export function takeSnapshot(vendor, server, name) {
  const size = vendor.sizes()[server.size]
  const now = vendor.clock.businessMs()
  const snapshot = {
    id: `snap_${randomBytes(8).toString('hex')}`,
    owner: server.owner,
    name,
    source_server: server.id,
    size_gb: Number(size.snapshot_gb),
    disk_gb: size.disk_gb,
    region: server.region,
    status: 'pending',
    created_at_ms: now,
    ready_at_ms: now + vendor.config.snapshot_s * 1000,
    expires_at_ms: now + RETENTION.free_hours * HOUR_MS,
  }
  vendor.book.snapshots[snapshot.id] = snapshot
  return snapshot
}

/** A snapshot that still exists; throws a Problem (404) for others. */
export function keptSnapshot(vendor, id) {
  const snapshot = Object.hasOwn(vendor.book.snapshots, id) ? vendor.book.snapshots[id] : undefined
  if (!snapshot || !isKept(snapshot)) throw notFound('snapshot')
  return snapshot
}

export const listSnapshots = {
  price: () => 0n,
  serve: (vendor, { payer }) => {
    const mine = Object.values(vendor.book.snapshots).filter((one) => one.owner === payer && isKept(one))
    return { status: 200, body: { snapshots: mine.map((one) => shown(vendor, one)) } }
  },
}

export const getSnapshot = {
  price: () => 0n,
  owner: (vendor, { params }) => keptSnapshot(vendor, params.id).owner,
  serve: (vendor, { params }) => ({ status: 200, body: shown(vendor, keptSnapshot(vendor, params.id)) }),
}

export const extendSnapshot = {
  price: (vendor, { params, body }) =>
    retentionPrice(keptSnapshot(vendor, params.id).size_gb, days(body), vendor.config.rounding),
  owner: getSnapshot.owner,
  serve: (vendor, { params, body, charged }) => {
    const snapshot = keptSnapshot(vendor, params.id)
    snapshot.expires_at_ms = Math.max(vendor.clock.businessMs(), snapshot.expires_at_ms) + days(body) * DAY_MS
    const { id, expires_at, remaining_days } = shown(vendor, snapshot)
    return { status: 200, body: { id, expires_at, remaining_days, days_added: days(body), charged: usd(charged) } }
  },
}

export const deleteSnapshot = {
  price: getSnapshot.price,
  owner: getSnapshot.owner,
  serve: (vendor, { params }) => {
    keptSnapshot(vendor, params.id).status = 'deleted'
    return { status: 200, body: { deleted: true, id: params.id } }
  },
}

function shown(vendor, snapshot) {
  const leftMs = snapshot.expires_at_ms - vendor.clock.businessMs()
  return {
    id: snapshot.id,
    name: snapshot.name,
    source_server: snapshot.source_server,
    size_gb: snapshot.size_gb,
    region: snapshot.region,
    status: snapshot.status,
    created_at: new Date(snapshot.created_at_ms).toISOString(),
    expires_at: new Date(snapshot.expires_at_ms).toISOString(),
    remaining_days: Math.round((leftMs / DAY_MS) * 100) / 100,
  }
}

function days(body) {
  const { days } = body
  if (!Number.isInteger(days) || days < 1 || days > RETENTION.max_days) {
    throw badRequest(`days: must be an integer from 1 to ${RETENTION.max_days}`)
  }
  return days
}
