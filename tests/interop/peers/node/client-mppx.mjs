// mppx 0.11's client, paying `evm` charges.
//
//   node client-mppx.mjs mpp|x402
//
// It speaks both protocols, and where a 402 offers both it takes MPP; `x402` asks it for the other, as the
// `--protocol x402` of its own command line does.

import { Receipt } from "mppx";
import { Mppx, evm } from "mppx/client";
import { Header } from "mppx/x402";
import { privateKeyToAccount } from "viem/accounts";
import { answer, init, serve } from "./driver.mjs";

const x402 = process.argv[2] === "x402";
const orderChallenges = (candidates) => candidates.filter(({ challenge }) => challenge.request.scheme === "exact");

const receipt = (response) => {
  if (x402) {
    const header = response.headers.get("PAYMENT-RESPONSE");
    return header ? Header.decodePaymentResponse(header) : null;
  }
  return response.headers.has("Payment-Receipt") ? Receipt.fromResponse(response) : null;
};

serve(async (request, start) => {
  const account = privateKeyToAccount(request.private_key);
  const mppx = Mppx.create({
    methods: [evm({ account, currencies: [evm.assets.baseSepolia.USDC], maxAmount: "1" })],
    polyfill: false,
    ...(x402 ? { orderChallenges } : {}),
  });
  return answer(await mppx.fetch(request.url, init(request)), receipt, start);
});
