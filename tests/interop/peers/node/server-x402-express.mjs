// x402-express 1.2.0: the Express middleware of the first generation.

import express from "express";
import { paymentMiddleware } from "x402-express";
import { FACILITATOR_URL, PAY_TO, PRICES, serveExpress } from "./serving.mjs";

const app = express();
const routes = Object.fromEntries(
  Object.entries(PRICES).map(([route, price]) => [route, { price: `$${price}`, network: "base-sepolia" }]),
);
app.use(paymentMiddleware(PAY_TO, routes, { url: FACILITATOR_URL }));
serveExpress(app, express);
