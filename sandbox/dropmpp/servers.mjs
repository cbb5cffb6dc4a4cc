// Servers: bought with prepaid minutes, extended, snapshotted, switched, destroyed.
//
// Each operation is {price, owner, serve}: `price` checks everything that can be told without knowing who asks and
// names the amount in base units (0n: a proof is enough, and nothing is told without one); `owner` is whose wallet must
// ask; `serve` does it, once the payment is in. What is wrong with a request is so always said before any money moves.

import { randomBytes } from 'node:crypto'

import { isLive } from './book.mjs'
import * as catalog from './catalog.mjs'
import { registeredKey } from './keys.mjs'
import { usd } from './money.mjs'
import { badRequest, notFound, Problem } from './problem.mjs'
import { keptSnapshot, takeSnapshot } from './snapshots.mjs'

const MINUTE_MS = 60_000
const MAX_MINUTES = 10 * 366 * 24 * 60
const USER_DATA_LIMIT = 65_536

export const createServer = {
  price: (vendor, { body }) => {
    const order = ordered(vendor, body)
    return catalog.createPrice(vendor.sizes()[order.size], order.minutes, vendor.config.rounding)
  },
  /** What it names must be the payer's own. */
  owner: (vendor, { body }) => {
    const { snapshot, keys } = ordered(vendor, body)
    return [snapshot, ...keys].flatMap((named) => named?.owner ?? [])
  },
  serve: (vendor, { body, payer, charged }) => {
    const order = ordered(vendor, body)
    const now = vendor.clock.businessMs()
    vendor.book.addresses += 1
    const server = {
      id: `srv_${randomBytes(8).toString('hex')}`,
      owner: payer,
      size: order.size,
      region: body.region,
      image: order.image,
      ssh_key_ids: order.keys.map((key) => key.id),
      snapshot_id: order.snapshot?.id ?? null,
      has_user_data: body.user_data !== undefined,
      status: 'provisioning',
      ip: `198.${18 + (vendor.book.addresses >> 16)}.${(vendor.book.addresses >> 8) & 255}.${vendor.book.addresses & 255}`,
      root_password: randomBytes(12).toString('base64url'),
      created_at_ms: now,
      ready_at_ms: now + vendor.config.provision_s * 1000,
      paid_until_ms: now + order.minutes * MINUTE_MS,
      minutes_purchased: order.minutes,
      reboots: 0,
      charged_base: charged.toString(),
    }
    vendor.book.servers[server.id] = server
    return {
      status: 201,
      body: {
        id: server.id,
        status: server.status,
        paid_until: iso(server.paid_until_ms),
        minutes_purchased: order.minutes,
        total_charged: usd(charged),
      },
    }
  },
}

export const listServers = {
  price: () => 0n,
  serve: (vendor, { payer }) => {
    const mine = Object.values(vendor.book.servers).filter((server) => server.owner === payer && isLive(server))
    return { status: 200, body: { servers: mine.map((server) => listed(vendor, server)) } }
  },
}

export const getServer = {
  price: () => 0n,
  owner: (vendor, { params }) => liveServer(vendor, params.id).owner,
  serve: (vendor, { params }) => {
    const server = liveServer(vendor, params.id)
    return { status: 200, body: { ...listed(vendor, server), root_password: server.root_password } }
  },
}

export const extendServer = {
  price: (vendor, { params, body }) => {
    const size = vendor.sizes()[liveServer(vendor, params.id).size]
    return catalog.extendPrice(size, minutes(body.minutes), vendor.config.rounding)
  },
  owner: getServer.owner,
  serve: (vendor, { params, body, charged }) => {
    const server = liveServer(vendor, params.id)
    server.paid_until_ms = Math.max(vendor.clock.businessMs(), server.paid_until_ms) + body.minutes * MINUTE_MS
    server.minutes_purchased += body.minutes
    server.charged_base = (BigInt(server.charged_base) + charged).toString()
    return {
      status: 200,
      body: {
        id: server.id,
        paid_until: iso(server.paid_until_ms),
        minutes_added: body.minutes,
        charged: usd(charged),
      },
    }
  },
}

export const snapshotServer = {
  price: (vendor, { params, body }) => {
    if (body.name !== undefined && typeof body.name !== 'string') throw badRequest('name: must be a string')
    runningServer(vendor, params.id)
    return catalog.SNAPSHOT_BASE
  },
  owner: getServer.owner,
  serve: (vendor, { params, body }) => {
    const server = runningServer(vendor, params.id)
    const snapshot = takeSnapshot(vendor, server, body.name ?? `snapshot-${server.id}`)
    return {
      status: 202,
      body: {
        id: snapshot.id,
        status: snapshot.status,
        expires_in_hours: catalog.RETENTION.free_hours,
        message: 'Snapshot started. It is kept 72 hours free of charge; extend it to keep it longer.',
      },
    }
  },
}

export const deleteServer = {
  price: getServer.price,
  owner: getServer.owner,
  serve: (vendor, { params }) => {
    const taken = vendor.destroy(liveServer(vendor, params.id), { reason: 'deleted', snapshot: true })
    const snapshot = { id: taken.id, expires_in_hours: catalog.RETENTION.free_hours }
    return { status: 200, body: { deleted: true, snapshot } }
  },
}

export const rebootServer = {
  price: (vendor, { params }) => runningServer(vendor, params.id) && catalog.POWER_BASE,
  owner: getServer.owner,
  serve: (vendor, { params }) => {
    const server = runningServer(vendor, params.id)
    server.reboots += 1
    return { status: 200, body: { id: server.id, status: 'rebooting' } }
  },
}

export const powerServer = {
  price: (vendor, { params, body }) => {
    if (!['on', 'off'].includes(body.action)) throw badRequest('action: must be on or off')
    settledServer(vendor, params.id)
    return catalog.POWER_BASE
  },
  owner: getServer.owner,
  serve: (vendor, { params, body }) => {
    const server = settledServer(vendor, params.id)
    server.status = body.action === 'on' ? 'active' : 'off'
    return { status: 200, body: { id: server.id, status: server.status } }
  },
}

function ordered(vendor, body) {
  const sizes = vendor.sizes()
  const image = body.image ?? catalog.DEFAULT_IMAGE
  if (!Object.hasOwn(sizes, body.size)) throw badRequest(`size: must be one of ${Object.keys(sizes).join(', ')}`)
  if (!catalog.REGIONS.some(({ slug }) => slug === body.region)) throw badRequest('region: must be nyc1, sfo3 or ams3')
  if (!catalog.IMAGES.some(({ slug }) => slug === image)) throw badRequest('image: unknown')
  if (body.user_data !== undefined) checkUserData(body.user_data)
  const ids = body.ssh_key_ids ?? []
  if (!Array.isArray(ids) || ids.some((id) => typeof id !== 'string')) throw badRequest('ssh_key_ids: must be strings')
  const keys = ids.map((id) => known(() => registeredKey(vendor, id), `ssh_key_ids: ${id} does not exist`))
  return {
    size: body.size,
    minutes: minutes(body.minutes ?? 1),
    image,
    keys,
    snapshot: body.snapshot_id === undefined ? null : restorable(vendor, body.snapshot_id, sizes[body.size]),
  }
}

function restorable(vendor, id, size) {
  const snapshot = known(() => keptSnapshot(vendor, id), 'snapshot_id: does not exist')
  if (snapshot.status !== 'available') throw badRequest('snapshot_id: is not available yet')
  if (snapshot.disk_gb > size.disk_gb) {
    throw badRequest(`snapshot_id: needs ${snapshot.disk_gb} GB of disk, the size has ${size.disk_gb} GB`)
  }
  return snapshot
}

/** A 404 of something that the body names is the body's fault. */
function known(find, message) {
  try {
    return find()
  } catch (error) {
    throw error instanceof Problem ? badRequest(message) : error
  }
}

function checkUserData(text) {
  if (typeof text !== 'string' || Buffer.byteLength(text) > USER_DATA_LIMIT) {
    throw badRequest('user_data: must be text of at most 64 KB')
  }
}

function minutes(value) {
  if (!Number.isInteger(value) || value < 1 || value > MAX_MINUTES) {
    throw badRequest('minutes: must be a positive integer')
  }
  return value
}

function liveServer(vendor, id) {
  const server = Object.hasOwn(vendor.book.servers, id) ? vendor.book.servers[id] : undefined
  if (!server || !isLive(server)) throw notFound('server')
  return server
}

function settledServer(vendor, id) {
  const server = liveServer(vendor, id)
  if (server.status === 'provisioning') throw new Problem(409, 'server is still being created')
  return server
}

function runningServer(vendor, id) {
  const server = settledServer(vendor, id)
  if (server.status !== 'active') throw new Problem(409, `server is ${server.status}`)
  return server
}

function listed(vendor, server) {
  const leftMs = Math.max(0, server.paid_until_ms - vendor.clock.businessMs())
  return {
    id: server.id,
    status: server.status,
    size: server.size,
    region: server.region,
    image: server.image,
    ip: server.status === 'provisioning' ? null : server.ip,
    remaining_minutes: Math.floor(leftMs / MINUTE_MS),
    remaining_hours: Math.round((leftMs / MINUTE_MS / 60) * 100) / 100,
    paid_until: iso(server.paid_until_ms),
    created_at: iso(server.created_at_ms),
  }
}

function iso(ms) {
  return new Date(ms).toISOString()
}
