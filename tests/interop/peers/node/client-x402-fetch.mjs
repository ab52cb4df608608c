// x402-fetch 1.2.0: the fetch wrapper of the first generation.

import { createWalletClient, http } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { baseSepolia } from "viem/chains";
import { decodeXPaymentResponse, wrapFetchWithPayment } from "x402-fetch";
import { answer, init, serve } from "./driver.mjs";

const receipt = ({ headers }) =>
  headers.has("X-PAYMENT-RESPONSE") ? decodeXPaymentResponse(headers.get("X-PAYMENT-RESPONSE")) : null;

serve(async (request, start) => {
  const account = privateKeyToAccount(request.private_key);
  const client = createWalletClient({ account, transport: http(), chain: baseSepolia });
  const fetchWithPay = wrapFetchWithPayment(fetch, client);
  return answer(await fetchWithPay(request.url, init(request)), receipt, start);
});
