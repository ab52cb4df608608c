// @x402/hono 2.27: the Hono middleware of the second generation.

import { serve } from "@hono/node-server";
import { HTTPFacilitatorClient } from "@x402/core/server";
import { ExactEvmScheme } from "@x402/evm/exact/server";
import { paymentMiddleware, x402ResourceServer } from "@x402/hono";
import { Hono } from "hono";
import { announce, eventStream, FACILITATOR_URL, NETWORK, WEATHER, x402Routes } from "./serving.mjs";

const app = new Hono();
const facilitatorClient = new HTTPFacilitatorClient({ url: FACILITATOR_URL });
const resourceServer = new x402ResourceServer(facilitatorClient).register(NETWORK, new ExactEvmScheme());
app.use(paymentMiddleware(x402Routes, resourceServer));
app.get("/weather", (c) => c.json(WEATHER));
app.post("/echo", async (c) => c.json(await c.req.json()));
app.get("/stream", () => eventStream());
serve({ fetch: app.fetch, port: 0, hostname: "127.0.0.1" }, ({ port }) => announce(port));
