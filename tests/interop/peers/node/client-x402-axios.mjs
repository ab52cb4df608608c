// x402-axios 0.7.2: the axios interceptor of the first generation. It reads the challenge from a parsed body, so an
// answer cannot be asked for as a stream.

import axios from "axios";
import { createWalletClient, http } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { baseSepolia } from "viem/chains";
import { decodeXPaymentResponse, withPaymentInterceptor } from "x402-axios";
import { serve } from "./driver.mjs";

serve(async ({ url, method, headers, body, private_key }) => {
  const account = privateKeyToAccount(private_key);
  const client = createWalletClient({ account, transport: http(), chain: baseSepolia });
  const api = withPaymentInterceptor(axios.create(), client);
  const response = await api.request({ url, method, headers, data: body });
  const header = response.headers["x-payment-response"];
  return {
    status: response.status,
    headers: Object.entries(response.headers),
    body: typeof response.data === "string" ? response.data : JSON.stringify(response.data),
    receipt: header ? decodeXPaymentResponse(header) : null,
    chunks: null,
  };
});
