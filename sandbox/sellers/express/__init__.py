"""Stock sellers in Node: one Express shop behind the middleware of npm `@x402/express`, or behind that of npm `mppx`."""
