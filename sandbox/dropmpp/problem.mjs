// A refusal that is the caller's to hear: status and a JSON body. The document does not show its errors; these are plain.

export class Problem extends Error {
  constructor(status, message) {
    super(message)
    this.status = status
  }

  /** The body of the answer. */
  body() {
    return { error: this.message }
  }
}

export const badRequest = (message) => new Problem(400, message)
export const notFound = (what) => new Problem(404, `${what} not found`)
