// The reference offer-receipt extension (npm @x402/extensions) as a black box; it imports nothing of ours.
//
// Reads {offers, receipt} on stdin and prints who signed each, as the extension recovers it.

import {
  decodeSignedOffers,
  verifyOfferSignatureEIP712,
  verifyReceiptMatchesOffer,
  verifyReceiptSignatureEIP712,
} from '../../sandbox/node_modules/@x402/extensions/dist/esm/offer-receipt/index.mjs'
import { text } from 'node:stream/consumers'

const { offers, receipt, payer } = JSON.parse(await text(process.stdin))
const signed = await Promise.all(offers.map(verifyOfferSignatureEIP712))
const taken = await verifyReceiptSignatureEIP712(receipt)
const [decoded] = decodeSignedOffers(offers)
const matches = verifyReceiptMatchesOffer(receipt, decoded, [payer], 3600)
console.log(JSON.stringify({ offers: signed.map((each) => each.signer), receipt: taken.signer, decoded, matches }))
