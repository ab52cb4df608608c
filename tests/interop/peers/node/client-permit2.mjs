// @x402/fetch 2.27, paying by Permit2 where a 402 offers it.
//
//   node client-permit2.mjs exact|upto

import { ExactEvmScheme } from "@x402/evm";
import { UptoEvmScheme } from "@x402/evm/upto/client";
import { decodePaymentResponseHeader, wrapFetchWithPaymentFromConfig } from "@x402/fetch";
import { privateKeyToAccount } from "viem/accounts";
import { answer, init, serve } from "./driver.mjs";

const wanted = process.argv[2];
const byPermit2 = ({ scheme, extra }) =>
  scheme === wanted && (scheme === "upto" || extra?.assetTransferMethod === "permit2");

const receipt = ({ headers }) => {
  const header = headers.get("PAYMENT-RESPONSE");
  return header ? decodePaymentResponseHeader(header) : null;
};

serve(async (request, start) => {
  const account = privateKeyToAccount(request.private_key);
  const schemes = [ExactEvmScheme, UptoEvmScheme].map((Scheme) => ({
    network: "eip155:*",
    client: new Scheme(account),
  }));
  const paymentRequirementsSelector = (_version, requirements) => requirements.find(byPermit2);
  const fetchWithPayment = wrapFetchWithPaymentFromConfig(fetch, { schemes, paymentRequirementsSelector });
  return answer(await fetchWithPayment(request.url, init(request)), receipt, start);
});
