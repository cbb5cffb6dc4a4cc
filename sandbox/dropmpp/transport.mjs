// HTTP as it comes and goes: Node's server around one function from a request to an answer, and the faults of the wire.
//
// A request is {method, path, query, headers, text, url}; an answer {status, headers: [[name, value]], body}. It knows
// no routes and no money.

import http from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'

const HEADER_LIMIT = 65_536 // Node's 16 KiB would refuse long credentials before a handler sees them
const BODY_LIMIT = 1_048_576

/** Serve `handle` on an address; resolves to {server, url}. */
export function listen(handle, host, port) {
  const server = http.createServer({ maxHeaderSize: HEADER_LIMIT, keepAliveTimeout: 60_000 }, (incoming, outgoing) => {
    answer(handle, incoming, outgoing).catch((error) => {
      console.error(error)
      outgoing.destroy()
    })
  })
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, () => resolve({ server, url: `http://${host}:${server.address().port}` }))
  })
}

/** A JSON answer. */
export function json(status, value, headers = []) {
  return { status, headers: [['content-type', 'application/json'], ...headers], body: JSON.stringify(value) }
}

/** What the handler returns where the connection is to be cut: `null` cuts at once. */
export const CUT = null

/** Wrap a handler in the faults of the wire; `route` names what the request asked for. */
export function misbehaving(faults, route, paid, handle) {
  return async () => {
    const slow = faults.take('slow', route, paid) ?? { before_s: 0, after_s: 0, body_s: 0 }
    const cut = faults.take('cut', route, paid)?.when
    const status = faults.take('status', route, paid)
    const redirect = faults.take('redirect', route, paid)
    await sleep(slow.before_s * 1000)
    if (cut === 'before') return CUT
    if (redirect) return { status: redirect.status, headers: [['location', redirect.location]], body: '' }
    let reply = status?.when === 'before' ? scripted(status) : await handle()
    if (status?.when === 'after') reply = scripted(status)
    await sleep(slow.after_s * 1000)
    if (cut === 'after') return CUT
    return { ...reply, pauseMs: slow.body_s * 1000, cutInBody: cut === 'body' }
  }
}

function scripted(fault) {
  return json(fault.status, fault.body, Object.entries(fault.headers))
}

async function answer(handle, incoming, outgoing) {
  const text = await bodyOf(incoming)
  if (text === undefined) return send(outgoing, json(413, { error: 'body too large' }))
  const url = new URL(`http://${incoming.headers.host ?? 'localhost'}`)
  const [path, query = ''] = incoming.url.split('?')
  url.pathname = path
  url.search = query
  const headers = new Headers()
  for (let i = 0; i < incoming.rawHeaders.length; i += 2) {
    headers.append(incoming.rawHeaders[i], incoming.rawHeaders[i + 1])
  }
  const reply = await handle({ method: incoming.method, path: url.pathname, query: url.searchParams, headers, text, url })
  return send(outgoing, reply)
}

async function bodyOf(incoming) {
  const chunks = []
  let size = 0
  for await (const chunk of incoming) {
    size += chunk.length
    if (size <= BODY_LIMIT) chunks.push(chunk)
  }
  return size > BODY_LIMIT ? undefined : Buffer.concat(chunks).toString('utf8')
}

async function send(outgoing, reply) {
  if (reply === CUT) return outgoing.destroy()
  const body = Buffer.from(reply.body ?? '')
  const middle = Math.floor(body.length / 2)
  const headers = [...reply.headers, ['content-length', String(body.length)]]
  outgoing.writeHead(reply.status, headers.flat())
  if (reply.cutInBody || reply.pauseMs) {
    outgoing.write(body.subarray(0, middle))
    await sleep(reply.pauseMs || 50) // long enough for the first half to leave
    if (reply.cutInBody) return outgoing.destroy()
    return outgoing.end(body.subarray(middle))
  }
  return outgoing.end(body)
}
