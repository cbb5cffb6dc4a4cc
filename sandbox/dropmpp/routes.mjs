// The vendor's public routes, as its document has them, each with the operation behind it.
//
// Whoever asks for what does not exist, is malformed or cannot be had now (404, 400 or 409) is told so before any price.

import * as catalog from './catalog.mjs'
import { createKey, deleteKey, listKeys } from './keys.mjs'
import { usd } from './money.mjs'
import { badRequest, Problem } from './problem.mjs'
import * as servers from './servers.mjs'
import * as snapshots from './snapshots.mjs'
import { credentialOf } from './till.mjs'
import { json, misbehaving } from './transport.mjs'

const shelf = (show) => ({
  price: (vendor) => (vendor.config.catalog === 'open' ? null : 0n),
  serve: (vendor) => ({ status: 200, body: show(vendor) }),
})

const ROUTES = [
  ['GET', '/v1/catalog/sizes', 'sizes', shelf(shownSizes)],
  ['GET', '/v1/catalog/regions', 'regions', shelf(() => ({ regions: catalog.REGIONS }))],
  ['GET', '/v1/catalog/images', 'images', shelf(() => ({ images: catalog.IMAGES }))],
  ['GET', '/v1/catalog/snapshot-pricing', 'snapshot_pricing', shelf(shownRetention)],
  ['POST', '/v1/servers', 'servers.create', servers.createServer],
  ['GET', '/v1/servers', 'servers.list', servers.listServers],
  ['GET', '/v1/servers/:id', 'servers.get', servers.getServer],
  ['POST', '/v1/servers/:id/extend', 'servers.extend', servers.extendServer],
  ['POST', '/v1/servers/:id/snapshot', 'servers.snapshot', servers.snapshotServer],
  ['DELETE', '/v1/servers/:id', 'servers.delete', servers.deleteServer],
  ['POST', '/v1/servers/:id/reboot', 'servers.reboot', servers.rebootServer],
  ['POST', '/v1/servers/:id/power', 'servers.power', servers.powerServer],
  ['GET', '/v1/snapshots', 'snapshots.list', snapshots.listSnapshots],
  ['GET', '/v1/snapshots/:id', 'snapshots.get', snapshots.getSnapshot],
  ['POST', '/v1/snapshots/:id/extend', 'snapshots.extend', snapshots.extendSnapshot],
  ['DELETE', '/v1/snapshots/:id', 'snapshots.delete', snapshots.deleteSnapshot],
  ['POST', '/v1/keys', 'keys.create', createKey],
  ['GET', '/v1/keys', 'keys.list', listKeys],
  ['DELETE', '/v1/keys/:id', 'keys.delete', deleteKey],
].map(([method, path, name, operation]) => ({
  method,
  name,
  operation,
  pattern: new RegExp(`^${path.replace(':id', '(?<id>[^/]+)')}$`),
}))

/** The handler of the public port. */
export function publicApp(vendor, desk) {
  return async (request) => {
    const found = ROUTES.map((route) => ({ ...route, match: route.pattern.exec(request.path) })).filter((r) => r.match)
    const route = found.find(({ method }) => method === request.method)
    if (!route) return found.length > 0 ? json(405, { error: 'method not allowed' }) : json(404, { error: 'not found' })
    const paid = credentialOf(request.headers) !== undefined
    const params = { ...route.match.groups }
    return misbehaving(vendor.faults, route.name, paid, () => handled(vendor, desk, route, request, params, paid))()
  }
}

async function handled(vendor, desk, { name, operation }, request, params, paid) {
  try {
    const expire = vendor.faults.take('expire', name, paid, ({ when }) => when === 'before')
    if (expire) endServer(vendor, params.id)
    vendor.sweep()
    const told = { params, body: jsonObject(request) }
    return await desk.answer({
      route: name,
      scope: `${request.method} ${request.path}`,
      request,
      price: operation.price(vendor, told),
      owner: operation.owner && (() => operation.owner(vendor, told)),
      serve: (payment) => operation.serve(vendor, { ...told, ...payment }),
      afterCharge: () => {
        if (vendor.faults.take('expire', name, true, ({ when }) => when === 'charged')) endServer(vendor, params.id)
      },
    })
  } catch (error) {
    if (error instanceof Problem) return json(error.status, error.body())
    throw error
  }
}

function endServer(vendor, id) {
  const server = vendor.book.servers[id]
  if (server) vendor.expire(server)
}

function jsonObject({ text }) {
  if (text === '') return {}
  let body
  try {
    body = JSON.parse(text)
  } catch {
    throw badRequest('body: not JSON')
  }
  if (typeof body !== 'object' || body === null || Array.isArray(body)) throw badRequest('body: not an object')
  return body
}

function shownSizes(vendor) {
  return { sizes: Object.entries(vendor.sizes()).map(([slug, size]) => catalog.sizeEntry(slug, size)) }
}

function shownRetention() {
  return {
    rate_per_gb_day: catalog.RETENTION.rate,
    minimum_charge: usd(catalog.RETENTION.min_base),
    free_retention_hours: catalog.RETENTION.free_hours,
    max_days_per_call: catalog.RETENTION.max_days,
  }
}
