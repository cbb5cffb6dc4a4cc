// Runs the shop: `node main.mjs --config JSON|-`.
//
// Prints one JSON line {base_url, pay_to} when it serves, and ends on SIGTERM, SIGINT or, with `-`, with stdin: its first
// line is the config. It knows no prices and no payments; those are `shop.mjs` and the tills.

import http from 'node:http'

import { readConfig } from './config.mjs'
import { shop } from './shop.mjs'

const HEADER_LIMIT = 65_536 // Node's 16 KiB would refuse long credentials before a handler sees them

async function main() {
  const config = readConfig(JSON.parse(await configText()))
  const server = http.createServer({ maxHeaderSize: HEADER_LIMIT, keepAliveTimeout: 60_000 }, await shop(config))
  for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => process.exit(0))
  server.on('error', fail)
  server.listen(config.port, config.host, () => {
    const base_url = `http://${config.host}:${server.address().port}`
    console.log(JSON.stringify({ base_url, pay_to: config.pay_to }))
  })
}

function configText() {
  const at = process.argv.indexOf('--config')
  const named = at < 0 ? undefined : process.argv[at + 1]
  if (named === undefined) throw new Error('--config JSON|- is missing')
  if (named !== '-') return named
  return new Promise((resolve, reject) => {
    let text = ''
    process.stdin.setEncoding('utf8')
    process.stdin.on('data', (chunk) => {
      text += chunk
      if (text.includes('\n')) resolve(text.slice(0, text.indexOf('\n')))
    })
    process.stdin.on('end', () => {
      reject(new Error('no line'))
      process.kill(process.pid, 'SIGTERM')
    })
  })
}

function fail(error) {
  console.error(`config: ${error.message}`)
  process.exit(1)
}

main().catch(fail)
