// What the payers in Node share: the configuration in, a call, one JSON line out.
//
// Config: private_key, url, method (GET), json (none), headers (none), what the payer's own file says, and calls (one: {}):
// what is different in each of several. A call's line is {status, headers, body, sent, receipt}: `sent` the payment headers
// of each request that carried any, `receipt` what the client's own library reads in the answer (null without one). What
// throws ends the process with the error on stderr. It knows nothing of any protocol but the names of its headers.

const PAYMENT_HEADERS = ['payment-signature', 'x-payment', 'authorization', 'payment-authorization']
const IS_PAYMENT = { authorization: /^Payment /i, 'payment-authorization': /^Payment /i }

/** Run a payer: a function from (config, fetch) to a fetch that pays, and one from an answer to its receipt. */
export async function payOnce(payer, receiptOf) {
  const config = JSON.parse(configText())
  for (const call of config.calls ?? [{}]) await payFor({ ...config, ...call }, payer, receiptOf)
}

async function payFor(config, payer, receiptOf) {
  const sent = []
  const pay = await payer(config, recording(sent))
  const body = config.json == null ? undefined : JSON.stringify(config.json)
  const headers = { ...(body !== undefined && { 'content-type': 'application/json' }), ...config.headers }
  const answer = await pay(config.url, { method: config.method ?? 'GET', headers, body })
  const told = { status: answer.status, headers: Object.fromEntries(answer.headers), body: await answer.text() }
  console.log(JSON.stringify({ ...told, sent, receipt: receiptOf(answer) }))
}

function recording(sent) {
  return (input, init) => {
    const headers = new Headers(init?.headers ?? (input instanceof Request ? input.headers : undefined))
    const payments = PAYMENT_HEADERS.map((name) => [name, headers.get(name)])
    const found = payments.filter(([name, value]) => value !== null && (IS_PAYMENT[name]?.test(value) ?? true))
    if (found.length > 0) sent.push(Object.fromEntries(found))
    return fetch(input, init)
  }
}

function configText() {
  const at = process.argv.indexOf('--config')
  const named = at < 0 ? undefined : process.argv[at + 1]
  if (named === undefined) throw new Error('--config JSON is missing')
  return named
}
