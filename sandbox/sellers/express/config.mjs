// The shop's configuration: one flat record, read strictly, every key documented here. Times are seconds.

const DEFAULTS = {
  till: null, // 'x402': npm @x402/express on Base; 'tempo' or 'evm': npm mppx's express middleware, on Tempo or on Base
  facilitator_url: null, // who settles on Base, over HTTP; for 'x402' and 'evm'
  facilitator_key: null, // what it wants to see as Bearer; for 'x402' and 'evm'
  rpc_url: null, // JSON-RPC of the Tempo that 'tempo' verifies and broadcasts on
  host: '127.0.0.1',
  port: 0, // 0: any free port
  pay_to: '0x8eCbd65228930060363C70854da7D37D57ffC358',
  max_timeout_s: 60, // what 'x402' asks a payment to be good for
  rpc_timeout_s: 35, // of one RPC call of 'tempo': a node waits up to 30 s for the block
}
const NEEDS = { x402: 'facilitator_url', tempo: 'rpc_url', evm: 'facilitator_url' }

/** Check the keys and return the record; throws an Error that names what is wrong. */
export function readConfig(raw) {
  const unknown = Object.keys(raw).filter((key) => !(key in DEFAULTS))
  if (unknown.length > 0) throw new Error(`unknown keys: ${unknown.sort().join(', ')}`)
  const config = { ...DEFAULTS, ...raw }
  if (!(config.till in NEEDS)) throw new Error(`till: must be one of ${Object.keys(NEEDS).join(', ')}`)
  const needed = NEEDS[config.till]
  if (config[needed] === null) throw new Error(`${needed}: the till '${config.till}' needs it`)
  return Object.freeze(config)
}
