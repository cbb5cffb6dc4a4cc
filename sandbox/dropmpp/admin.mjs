// The admin API: what tests and the demo drive the vendor with, on a port of its own. Not part of the vendor's document.
//
// - GET  /admin/state                 the whole book (servers, snapshots, keys, payments) and both clocks
// - GET  /admin/faults                the faults in force; POST adds one object or a list -> {ids}
// - DELETE /admin/faults, /admin/faults/{id}
// - POST /admin/clock {advance_s}     pushes business time forward (payment windows stay on the real clock)
// - POST /admin/servers/{id} {expire} or {status}   ends a server's prepaid time now, or sets its state by hand
// - POST /admin/reset                 forgets faults, servers, snapshots, keys and payments; the clock goes back too

import { json } from './transport.mjs'

/** The handler of the admin port; a bad request is 400 with the reason. */
export function adminApp(vendor) {
  return async (request) => {
    try {
      const body = request.text ? JSON.parse(request.text) : {}
      return json(200, act(vendor, request, body))
    } catch (error) {
      return json(error.status ?? 400, { detail: error.message })
    }
  }
}

function act(vendor, { method, path }, body) {
  const [, root, what, id] = path.split('/')
  const key = root === 'admin' ? `${method} ${what}${id === undefined ? '' : ' id'}` : ''
  const action = ACTIONS[key]
  if (!action) throw Object.assign(new Error('not found'), { status: 404 })
  return action(vendor, body, id)
}

const clocks = ({ clock }) => {
  const real_ms = clock.realMs()
  return { real_ms, business_ms: real_ms + clock.offsetMs }
}

const ACTIONS = {
  'GET state': (vendor) => {
    vendor.sweep()
    const { claims, secret_key: _, ...told } = vendor.book
    return { ...told, claims: Object.keys(claims).length, ...clocks(vendor) }
  },
  'GET faults': (vendor) => vendor.faults.active(),
  'POST faults': (vendor, body) => ({ ids: [body].flat().map((entry) => vendor.faults.add(entry)) }),
  'DELETE faults': (vendor) => {
    vendor.faults.clear()
    return {}
  },
  'DELETE faults id': (vendor, _, id) => {
    vendor.faults.clear(Number(id))
    return {}
  },
  'POST clock': (vendor, body) => {
    if (typeof body.advance_s !== 'number') throw new TypeError('advance_s: a number of seconds')
    vendor.advance(body.advance_s)
    return clocks(vendor)
  },
  'POST servers id': (vendor, body, id) => {
    const server = vendor.book.servers[id]
    if (!server) throw Object.assign(new Error('no such server'), { status: 404 })
    if (body.expire) vendor.expire(server)
    if (body.status) server.status = body.status
    vendor.save()
    return server
  },
  'POST reset': (vendor) => {
    vendor.reset()
    return {}
  },
}
