// mppx 0.11's server on Hono, charging with `evm` and open to x402 payers too.

import { serve } from "@hono/node-server";
import { Hono } from "hono";
import { evm, Mppx } from "mppx/hono";
import { announce, eventStream, FACILITATOR_URL, MPP_SECRET_KEY, PAY_TO, PRICES, WEATHER } from "./serving.mjs";

const app = new Hono();
const mppx = Mppx.create({
  methods: [
    evm({
      currency: evm.assets.baseSepolia.USDC,
      recipient: PAY_TO,
      x402: { facilitator: FACILITATOR_URL },
    }),
  ],
  secretKey: MPP_SECRET_KEY,
});
app.get("/weather", mppx.charge({ amount: PRICES["GET /weather"] }), (c) => c.json(WEATHER));
app.post("/echo", mppx.charge({ amount: PRICES["POST /echo"] }), async (c) => c.json(await c.req.json()));
app.get("/stream", mppx.charge({ amount: PRICES["GET /stream"] }), () => eventStream());
serve({ fetch: app.fetch, port: 0, hostname: "127.0.0.1" }, ({ port }) => announce(port));
