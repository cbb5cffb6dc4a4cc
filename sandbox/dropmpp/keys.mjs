// SSH public keys: registered for a fee, listed and removed by whoever registered them.

import { createHash, randomBytes } from 'node:crypto'

import { KEY_BASE } from './catalog.mjs'
import { badRequest, notFound } from './problem.mjs'

const PUBLIC_KEY = /^(ssh-(?:ed25519|rsa)|ecdsa-sha2-nistp(?:256|384|521)) ([A-Za-z0-9+/]+={0,2})(?: .*)?$/

/** A registered key; throws a Problem (404) for others. */
export function registeredKey(vendor, id) {
  if (!Object.hasOwn(vendor.book.keys, id)) throw notFound('key')
  return vendor.book.keys[id]
}

export const createKey = {
  price: (_, { body }) => checked(body) && KEY_BASE,
  serve: (vendor, { body, payer }) => {
    const [, , blob] = checked(body)
    const md5 = createHash('md5').update(Buffer.from(blob, 'base64')).digest('hex')
    const key = {
      id: `key_${randomBytes(8).toString('hex')}`,
      owner: payer,
      name: body.name,
      public_key: body.public_key,
      fingerprint: md5.match(/../g).join(':'),
      created_at_ms: vendor.clock.businessMs(),
    }
    vendor.book.keys[key.id] = key
    return { status: 201, body: shown(key) }
  },
}

export const listKeys = {
  price: () => 0n,
  serve: (vendor, { payer }) => {
    const mine = Object.values(vendor.book.keys).filter((key) => key.owner === payer)
    return { status: 200, body: { keys: mine.map(shown) } }
  },
}

export const deleteKey = {
  price: () => 0n,
  owner: (vendor, { params }) => registeredKey(vendor, params.id).owner,
  serve: (vendor, { params }) => {
    registeredKey(vendor, params.id)
    delete vendor.book.keys[params.id]
    return { status: 200, body: { deleted: true, id: params.id } }
  },
}

function checked(body) {
  if (typeof body.name !== 'string' || body.name === '') throw badRequest('name: required')
  const found = typeof body.public_key === 'string' ? PUBLIC_KEY.exec(body.public_key.trim()) : null
  if (!found) throw badRequest('public_key: must be a full SSH public key')
  return found
}

function shown(key) {
  return { id: key.id, name: key.name, fingerprint: key.fingerprint }
}
