// Runs the vendor: `node main.mjs --config FILE|JSON|-`.
//
// Prints one JSON line {base_url, admin_url, pay_to} when it serves, and ends on SIGTERM, SIGINT or its parent's death:
// with `-` the first line of stdin is the config, and stdin's end is the end of this process.

import { readFileSync } from 'node:fs'

import { adminApp } from './admin.mjs'
import { readConfig } from './config.mjs'
import { FrontDesk } from './frontdesk.mjs'
import { publicApp } from './routes.mjs'
import { listen } from './transport.mjs'
import { Vendor } from './vendor.mjs'

const SWEEP_MS = 200

async function main() {
  const config = await startingConfig()
  const vendor = new Vendor(config)
  const desk = new FrontDesk(vendor)
  const open = await listen(publicApp(vendor, desk), config.host, config.port)
  const admin = await listen(adminApp(vendor), config.host, config.admin_port)
  vendor.save()
  setInterval(() => vendor.sweep(), SWEEP_MS).unref()
  for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => end(vendor))
  console.log(JSON.stringify({ base_url: open.url, admin_url: admin.url, pay_to: config.pay_to }))
}

async function startingConfig() {
  const at = process.argv.indexOf('--config')
  const named = at < 0 ? undefined : process.argv[at + 1]
  if (named === undefined) throw new Error('--config FILE|JSON|- is missing')
  if (named === '-') return readConfig(JSON.parse(await firstLineOfStdin()))
  endWithParent()
  return readConfig(JSON.parse(named.trimStart().startsWith('{') ? named : readFileSync(named, 'utf8')))
}

function firstLineOfStdin() {
  return new Promise((resolve, reject) => {
    let text = ''
    let told = false
    process.stdin.setEncoding('utf8')
    process.stdin.on('data', (chunk) => {
      if (told) return
      text += chunk
      if (!text.includes('\n')) return
      told = true
      resolve(text.slice(0, text.indexOf('\n')))
    })
    process.stdin.on('end', () => (told ? process.kill(process.pid, 'SIGTERM') : reject(new Error('config: no line'))))
  })
}

function endWithParent() {
  const parent = process.ppid
  setInterval(() => {
    if (process.ppid !== parent) process.kill(process.pid, 'SIGTERM')
  }, SWEEP_MS).unref()
}

function end(vendor) {
  vendor.save()
  process.exit(0)
}

main().catch((error) => {
  console.error(`config: ${error.message}`)
  process.exit(1)
})
