// @x402/express 2.27: the Express middleware of the second generation.

import { HTTPFacilitatorClient } from "@x402/core/server";
import { ExactEvmScheme } from "@x402/evm/exact/server";
import { paymentMiddleware, x402ResourceServer } from "@x402/express";
import express from "express";
import { FACILITATOR_URL, NETWORK, serveExpress, x402Routes } from "./serving.mjs";

const app = express();
const facilitatorClient = new HTTPFacilitatorClient({ url: FACILITATOR_URL });
const resourceServer = new x402ResourceServer(facilitatorClient).register(NETWORK, new ExactEvmScheme());
app.use(paymentMiddleware(x402Routes, resourceServer));
serveExpress(app, express);
