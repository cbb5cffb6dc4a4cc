// Two clocks: the real one, which payment windows obey, and the business one, which tests may push forward.
//
// Prepaid minutes, provisioning and retention are business time. Nothing that the chain or mppx judges may ask it.

export class Clock {
  constructor(offsetMs = 0) {
    this.offsetMs = offsetMs
  }

  /** Wall-clock Unix milliseconds. */
  realMs() {
    return Date.now()
  }

  /** Unix milliseconds as billing sees them. */
  businessMs() {
    return Date.now() + this.offsetMs
  }

  /** Push business time forward; throws RangeError for a step back. */
  advance(byMs) {
    if (!(byMs >= 0)) throw new RangeError('business time only goes forward')
    this.offsetMs += byMs
  }
}
