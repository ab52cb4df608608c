// Node's own HTTP with trailers both ways, paid by x402's Express middleware of either generation.
//
//   node server-trailers.mjs v1|v2
//
// Every path answers with the body that it got, in chunks, and trailers: a hash of that body, the trailers and the
// header names that came with it, and some that had better not be passed on. What stands under /paid costs a cent.

import { createHash } from "node:crypto";
import { HTTPFacilitatorClient } from "@x402/core/server";
import { ExactEvmScheme } from "@x402/evm/exact/server";
import { paymentMiddleware, x402ResourceServer } from "@x402/express";
import express from "express";
import { paymentMiddleware as paymentMiddlewareV1 } from "x402-express";
import { announce, FACILITATOR_URL, NETWORK, PAY_TO } from "./serving.mjs";

const app = express();
if (process.argv[2] === "v1") {
  const price = { price: "$0.01", network: "base-sepolia" };
  app.use(paymentMiddlewareV1(PAY_TO, { "/paid": price }, { url: FACILITATOR_URL }));
} else {
  const server = new x402ResourceServer(new HTTPFacilitatorClient({ url: FACILITATOR_URL }));
  const accepts = { scheme: "exact", price: "$0.01", network: NETWORK, payTo: PAY_TO };
  const routes = Object.fromEntries(["GET /paid", "POST /paid"].map((route) => [route, { accepts }]));
  app.use(paymentMiddleware(routes, server.register(NETWORK, new ExactEvmScheme())));
}
app.use(async (request, response) => {
  const parts = [];
  for await (const part of request) parts.push(part);
  const body = Buffer.concat(parts);
  response.setHeader("Trailer", "X-Sum, Content-Length");
  response.write("got ");
  response.write(body.length ? body : "nothing");
  response.addTrailers({
    "X-Sum": createHash("sha256").update(body).digest("hex"),
    "X-Came": JSON.stringify(request.trailers),
    "X-Heads": JSON.stringify(request.headers),
    "Payment-Receipt": "forged",
    "Set-Cookie": "a=1",
  });
  response.end();
});
const listener = app.listen(0, "127.0.0.1", () => announce(listener.address().port));
