// What is on sale, as data, and what each thing costs. Rates are decimal texts here and BigInt in use.

import { atLeast, divide, parseRate, parseUsd, rate } from './money.mjs'

export const REGIONS = [
  { slug: 'nyc1', name: 'New York' },
  { slug: 'sfo3', name: 'San Francisco' },
  { slug: 'ams3', name: 'Amsterdam' },
]
export const IMAGES = [
  { slug: 'ubuntu-24-04-x64', name: 'Ubuntu 24.04 LTS' },
  { slug: 'debian-12-x64', name: 'Debian 12' },
]
export const DEFAULT_IMAGE = 'ubuntu-24-04-x64'

// The document names the sizes, not their prices: these rates are ours, chosen so that no minute divides evenly.
export const SIZES = {
  small: { vcpus: 1, memory_mb: 1024, disk_gb: 25, hourly: '0.0134', create_fee: '0.01', snapshot_gb: '1.87' },
  medium: { vcpus: 2, memory_mb: 4096, disk_gb: 80, hourly: '0.0536', create_fee: '0.02', snapshot_gb: '3.41' },
  large: { vcpus: 4, memory_mb: 8192, disk_gb: 160, hourly: '0.1072', create_fee: '0.04', snapshot_gb: '6.9' },
}

export const POWER_BASE = 5_000n
export const KEY_BASE = 1_000n
export const SNAPSHOT_BASE = 10_000n
export const MIN_EXTEND_BASE = 10_000n
export const RETENTION = { rate: '0.00267', min_base: 10_000n, free_hours: 72, max_days: 365 }

const MINUTES = 60n
const NANO_IN_BASE = 1_000n
const GB_SCALE = 1_000n // sizes have at most three decimals

/** The price of prepaid minutes, in base units. */
export function compute(size, minutes, rounding) {
  return divide(parseRate(size.hourly) * BigInt(minutes), MINUTES * NANO_IN_BASE, rounding)
}

/** The price of a new server with its minutes. */
export function createPrice(size, minutes, rounding) {
  return parseUsd(size.create_fee) + compute(size, minutes, rounding)
}

/** The price of more minutes. */
export function extendPrice(size, minutes, rounding) {
  return atLeast(MIN_EXTEND_BASE, compute(size, minutes, rounding))
}

/** The price of keeping a snapshot for so many days more. */
export function retentionPrice(sizeGb, days, rounding) {
  const milliGb = BigInt(Math.round(Number(sizeGb) * Number(GB_SCALE)))
  const nano = milliGb * BigInt(days) * parseRate(RETENTION.rate)
  return atLeast(RETENTION.min_base, divide(nano, GB_SCALE * NANO_IN_BASE, rounding))
}

/** The catalogue's entry of a size. */
export function sizeEntry(slug, size) {
  return {
    slug,
    vcpus: size.vcpus,
    memory_mb: size.memory_mb,
    disk_gb: size.disk_gb,
    hourly: size.hourly,
    per_minute: rate(divide(parseRate(size.hourly), MINUTES, 'nearest')),
    create_fee: size.create_fee,
  }
}

/** The sizes with overrides; throws RangeError for a size, field or price that does not exist. */
export function withPrices(sizes, overrides) {
  const table = structuredClone(sizes)
  for (const [slug, changes] of Object.entries(overrides)) {
    if (!(slug in table)) throw new RangeError(`unknown size: ${slug}`)
    for (const name of Object.keys(changes)) {
      if (!(name in table[slug])) throw new RangeError(`${slug}: unknown field: ${name}`)
    }
    Object.assign(table[slug], changes)
    parseRate(table[slug].hourly)
    parseUsd(table[slug].create_fee)
  }
  return table
}
