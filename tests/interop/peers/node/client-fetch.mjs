// @x402/fetch 2.27: the fetch wrapper of the second generation.
//
//   node client-fetch.mjs [v1]
//
// `v1` registers the scheme of the first generation and nothing else, as a program does that has taken the new library
// and not yet the new protocol.

import { ExactEvmScheme } from "@x402/evm";
import { ExactEvmSchemeV1 } from "@x402/evm/v1";
import { decodePaymentResponseHeader, wrapFetchWithPaymentFromConfig } from "@x402/fetch";
import { privateKeyToAccount } from "viem/accounts";
import { answer, init, serve } from "./driver.mjs";

const scheme =
  process.argv[2] === "v1"
    ? (account) => ({ network: "base-sepolia", client: new ExactEvmSchemeV1(account), x402Version: 1 })
    : (account) => ({ network: "eip155:*", client: new ExactEvmScheme(account) });

const receipt = ({ headers }) => {
  const header = headers.get("PAYMENT-RESPONSE") ?? headers.get("X-PAYMENT-RESPONSE");
  return header ? decodePaymentResponseHeader(header) : null;
};

serve(async (request, start) => {
  const account = privateKeyToAccount(request.private_key);
  const fetchWithPayment = wrapFetchWithPaymentFromConfig(fetch, { schemes: [scheme(account)] });
  return answer(await fetchWithPayment(request.url, init(request)), receipt, start);
});
