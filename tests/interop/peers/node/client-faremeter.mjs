// @faremeter/fetch 0.22: reads either generation of x402, whichever the 402 shows.

import { wrap } from "@faremeter/fetch";
import { createPaymentHandler } from "@faremeter/payment-evm/exact";
import * as v1 from "@faremeter/types/x402";
import * as v2 from "@faremeter/types/x402v2";
import { createLocalWallet } from "@faremeter/wallet-evm";
import { baseSepolia } from "viem/chains";
import { answer, init, serve } from "./driver.mjs";

const receipt = ({ headers }) => {
  for (const [name, check] of [
    [v2.V2_PAYMENT_RESPONSE_HEADER, v2.x402SettleResponse],
    [v1.X_PAYMENT_RESPONSE_HEADER, v1.x402SettleResponseLenient],
  ])
    if (headers.has(name)) return check.assert(JSON.parse(atob(headers.get(name))));
  return null;
};

serve(async (request, start) => {
  const wallet = await createLocalWallet({ id: baseSepolia.id, name: baseSepolia.name }, request.private_key);
  const fetchWithPayer = wrap(fetch, { handlers: [createPaymentHandler(wallet)] });
  return answer(await fetchWithPayer(request.url, init(request)), receipt, start);
});
