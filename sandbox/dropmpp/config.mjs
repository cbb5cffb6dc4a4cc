// The vendor's configuration: one flat record, read strictly, every key documented here. Times are seconds, amounts
// decimal USD texts. It must not know what a test wants to see; that is `faults`.

import { SIZES, withPrices } from './catalog.mjs'
import { ROUNDINGS } from './money.mjs'

const PATH_USD = '0x20c0000000000000000000000000000000000000'

const DEFAULTS = {
  rpc_url: null, // JSON-RPC of the chain that it verifies and broadcasts on; the only key without a default
  host: '127.0.0.1',
  port: 0, // 0: any free port; set it where a restarted vendor must keep its address
  admin_port: 0,
  pay_to: '0x8eCbd65228930060363C70854da7D37D57ffC358',
  currency: PATH_USD,
  chain_id: 42431,
  realm: null, // null: the host name that the request came for, as mppx does by itself
  secret_key: null, // binds challenges; null: made once and kept in the state file
  challenge_ttl_s: 300,
  modes: null, // ["pull"], ["push"] or both, as supportedModes; null does not say, and takes both
  requires_auth: false, // true: asks for Payment-Authorization, as a vendor behind a Bearer token does
  fee_payer_key: null, // hex key of an account that sponsors the payers' fees; null: payers pay them
  splits: [], // [{recipient, bps}]: parts of every price, in 1/100 %, that go elsewhere
  catalog: 'open', // or 'proof': the catalogue wants to know who asks
  rounding: 'up', // of a price that has more than six decimals; the document does not say
  sizes: {}, // {small: {hourly, create_fee, disk_gb, snapshot_gb, ...}} over the built-in ones
  provision_s: 1, // business seconds until a new server is active
  snapshot_s: 1, // business seconds until a snapshot is available
  at_expiry: 'destroy', // what happens at paid_until, which the document does not say: destroy, snapshot or off
  state_file: null, // where all this survives a restart; null: memory only
  faults: [], // faults to start with, as POST /admin/faults takes them
}
const CHOICES = {
  catalog: ['open', 'proof'],
  rounding: ROUNDINGS,
  at_expiry: ['destroy', 'snapshot', 'off'],
}

/** Check the keys and return the record; throws an Error that names what is wrong. */
export function readConfig(raw) {
  const unknown = Object.keys(raw).filter((key) => !(key in DEFAULTS))
  if (unknown.length > 0) throw new Error(`unknown config keys: ${unknown.sort().join(', ')}`)
  if (typeof raw.rpc_url !== 'string') throw new Error('missing config keys: rpc_url')
  const config = { ...structuredClone(DEFAULTS), ...raw }
  for (const [key, allowed] of Object.entries(CHOICES)) {
    if (!allowed.includes(config[key])) throw new Error(`${key}: must be one of ${allowed.join(', ')}`)
  }
  config.sizes = withPrices(SIZES, config.sizes)
  return Object.freeze(config)
}
