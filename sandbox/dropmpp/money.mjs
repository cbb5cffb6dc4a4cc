// Money as integers: USD in base units (1e-6) and rates in nano-USD (1e-9), both BigInt. Decimal text at the edges.

const AMOUNT_DECIMALS = 6
const RATE_DECIMALS = 9
const DECIMAL = /^(0|[1-9][0-9]*)(?:\.([0-9]+))?$/

export const ROUNDINGS = ['up', 'down', 'nearest']

/** A decimal USD text in base units; throws RangeError for anything that is not an amount. */
export function parseUsd(text) {
  return scaled(text, AMOUNT_DECIMALS)
}

/** A decimal USD rate in nano-USD; throws RangeError likewise. */
export function parseRate(text) {
  return scaled(text, RATE_DECIMALS)
}

/** Base units as decimal USD text, without trailing zeros. */
export function usd(base) {
  return decimalText(base, AMOUNT_DECIMALS)
}

/** nano-USD as decimal USD text. */
export function rate(nano) {
  return decimalText(nano, RATE_DECIMALS)
}

/** numerator / denominator, both positive, rounded as named in ROUNDINGS. */
export function divide(numerator, denominator, rounding) {
  const whole = numerator / denominator
  const rest = numerator % denominator
  if (rest === 0n || rounding === 'down') return whole
  if (rounding === 'up') return whole + 1n
  return rest * 2n >= denominator ? whole + 1n : whole
}

/** The larger of two amounts. */
export function atLeast(floor, amount) {
  return amount < floor ? floor : amount
}

function scaled(text, decimals) {
  const found = typeof text === 'string' ? DECIMAL.exec(text) : null
  if (!found || (found[2] ?? '').length > decimals) throw new RangeError(`not an amount of USD: ${JSON.stringify(text)}`)
  return BigInt(found[1]) * 10n ** BigInt(decimals) + BigInt((found[2] ?? '').padEnd(decimals, '0'))
}

function decimalText(value, decimals) {
  const digits = value.toString().padStart(decimals + 1, '0')
  const fraction = digits.slice(-decimals).replace(/0+$/, '')
  return fraction ? `${digits.slice(0, -decimals)}.${fraction}` : digits.slice(0, -decimals)
}
