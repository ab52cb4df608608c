// @x402/axios 2.11: the axios interceptor of the second generation.

import axios from "axios";
import { ExactEvmScheme } from "@x402/evm";
import { decodePaymentResponseHeader, wrapAxiosWithPaymentFromConfig } from "@x402/axios";
import { privateKeyToAccount } from "viem/accounts";
import { performance } from "node:perf_hooks";
import { serve } from "./driver.mjs";

serve(async ({ url, method, headers, body, private_key, stream }, start) => {
  const account = privateKeyToAccount(private_key);
  const api = wrapAxiosWithPaymentFromConfig(axios.create(), {
    schemes: [{ network: "eip155:*", client: new ExactEvmScheme(account) }],
  });
  const response = await api.request({ url, method, headers, data: body, ...(stream ? { responseType: "stream" } : {}) });
  let chunks = null;
  if (stream) {
    chunks = [];
    for await (const data of response.data) chunks.push([(performance.now() - start) / 1000, data.toString()]);
    response.data = chunks.map(([, text]) => text).join("");
  }
  const header = response.headers["payment-response"];
  return {
    status: response.status,
    headers: Object.entries(response.headers),
    body: typeof response.data === "string" ? response.data : JSON.stringify(response.data),
    receipt: header ? decodePaymentResponseHeader(header) : null,
    chunks,
  };
});
